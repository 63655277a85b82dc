"""Attention and LayerNorm computed in other ways, until one gives what a model gave."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["ONES", "ROLES", "SCALES", "Way", "attention", "norm"]

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from companion.parity_order import kind
from companion.parity_tokens import apart, same
from companion.parity_walk import Scene


class Way(NamedTuple):
    """A way to compute attention."""

    heads: int
    scale: str
    hidden: str
    roles: str


SCALES = {
    "divided by the root of a head's channels": lambda C, heads: (C / heads) ** -0.5,
    "not divided": lambda C, heads: 1.0,
    "divided by the root of all channels": lambda C, heads: C**-0.5,
}
ONES = "1 added to the scores of tokens, 0 to those of padding"
ROLES = {
    "q, k, v": (0, 1, 2),
    "k, q, v": (1, 0, 2),
    "q, v, k": (0, 2, 1),
    "v, k, q": (2, 1, 0),
}


def attention(scene: Scene) -> Iterator[str]:
    """How the two attentions differ, where the reference's comes of q, k and v."""
    parts = _queries_keys_values(scene)
    if not parts or scene.a.shape != parts[0].shape:
        return
    row = int(apart(scene.a, scene.b).flatten(1).amax(1).argmax())
    seen = scene.tokens.seen[row].to(scene.a.device)
    qkv = [part[row : row + 1] for part in parts]
    theirs, ours = (_way(qkv, seen, y[row], scene.tolerance) for y in (scene.a, scene.b))
    if theirs is None or theirs == ours:
        return
    if ours is None:
        said = _said(theirs, Way._fields)
        yield f"attention in the reference has {said}, and not here"
    else:
        fields = [name for name in Way._fields if getattr(theirs, name) != getattr(ours, name)]
        ours, theirs = _said(ours, fields), _said(theirs, fields)
        yield f"attention has {ours}; in the reference {theirs}"


def _said(way: Way, fields: list[str] | tuple[str, ...]) -> str:
    said = {
        "heads": f"{way.heads} heads",
        "scale": f"scores {way.scale}",
        "hidden": way.hidden,
        "roles": f"{way.roles} as queries, keys, values",
    }
    return ", ".join(said[name] for name in fields)


def _queries_keys_values(scene: Scene) -> list[Tensor]:
    """The last three equal layers inside the culprit, or one three times as wide."""
    if scene.tokens.seen is None or scene.a.dim() != 3 or not scene.a.is_floating_point():
        return []
    inside = [pair.reference for pair in scene.agreed if scene.culprit in pair.reference.above()]
    given = [c.outputs[0].numbers for c in dict.fromkeys(inside) if kind(c) == "matrix"]
    if given and given[-1].shape == (*scene.a.shape[:2], 3 * scene.a.shape[2]):
        return list(given[-1].chunk(3, dim=-1))
    return given[-3:] if len(given) >= 3 and len({x.shape for x in given[-3:]}) == 1 else []


def _way(qkv: list[Tensor], seen: Tensor, y: Tensor, tolerance: float | None) -> Way | None:
    """The way that gives y (T, C) at the tokens of one text, if it is one of these."""
    T, C = y.shape
    whole = torch.ones(T, T, dtype=torch.bool, device=y.device)
    at = seen.nonzero().flatten()
    at = at[:: max(1, len(at) // 8)]  # a few queries will do
    least = torch.finfo(y.dtype).min
    shown = {
        "nothing hidden": whole,
        "padding hidden": whole & seen,
        "what comes later hidden": whole.tril() & seen,
        "what came before hidden": whole.triu() & seen,
        "all but padding hidden": whole & ~seen,
    }
    added = {name: torch.where(see, 0, least).to(y) for name, see in shown.items()}
    added[ONES] = (whole & seen).to(y)
    heads = [n for n in range(1, min(C, 128) + 1) if C % n == 0]
    for way in map(Way._make, product(heads, SCALES, added, ROLES)):
        q, k, v = (  # (1, nh, T, hs)
            qkv[n].unflatten(-1, (way.heads, -1)).transpose(1, 2) for n in ROLES[way.roles]
        )
        scores = q[:, :, at] @ k.mT * SCALES[way.scale](C, way.heads)  # (1, nh, some, T)
        scores = (scores + added[way.hidden][at]).clamp(min=least)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)[0]  # (some, C)
        if same(y[at], mixed, tolerance):
            return way
    return None


def norm(scene: Scene) -> Iterator[str]:
    """Which eps, or which divisor, of a LayerNorm gives the candidate's numbers."""
    if kind(scene.culprit) != "norm" or scene.handed or not scene.sources:
        return
    met = scene.tokens.side_by_side(scene.sources[0][1], scene.a)
    if met is None or met[0].shape != scene.b.shape:
        return
    x, a, b = (scene.tokens.real(t).double() for t in (*met, scene.b))
    weight, *bias = (p.detach().double() for p in scene.culprit.module.parameters())
    if weight.shape != x.shape[-1:] or not weight.all():
        return
    a, b = ((y - (bias[0] if bias else 0)) / weight for y in (a, b))
    x = x - x.mean(-1, keepdim=True)
    variance = x.square().mean(-1)
    slopes = [(x * y).sum(-1) / (x * x).sum(-1) for y in (a, b)]  # 1 / sqrt(variance + eps)
    if any((slope[..., None] * x - y).abs().max() > 1e-3 for slope, y in zip(slopes, (a, b))):
        return
    ratio, C = slopes[1] / slopes[0], x.shape[-1]
    eps = slopes[1] ** -2 - slopes[0] ** -2
    if ratio.max() - ratio.min() < 1e-4:
        said = f"before weight and bias, it is the reference's times {ratio.mean():.4g}"
        by_one_less = abs(ratio.mean() ** 2 - (C - 1) / C) < 1e-3
        yield said + (f": variance is divided by {C - 1}" if by_one_less else "")
    elif eps.max() - eps.min() < 0.1 * eps.median().abs() + 1e-5 * variance.max():
        yield f"by its numbers, its eps is the reference's plus {eps.median():.1e}"
