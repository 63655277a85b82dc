"""What a differing tensor is: another one, a sum that lacks one, another function of
one."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["FUNCTIONS", "function", "neighbour", "position"]

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.parity_tokens import apart, same
from companion.parity_walk import Scene

FUNCTIONS = {
    "itself": lambda x: x,
    "GELU (erf)": F.gelu,
    "GELU (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "GELU (sigmoid)": lambda x: x * torch.sigmoid(1.702 * x),
    "ReLU": F.relu,
    "SiLU": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def neighbour(scene: Scene) -> Iterator[str]:
    """Whether it is another tensor of the reference, or lacks one, or has one too
    many."""
    a, b = scene.a, scene.b
    if not a.is_floating_point():
        yield from _ids(a, b)
        return
    verb = "is handed" if scene.handed else "gives"
    for label, x in _at_hand(scene):
        both = scene.tokens.side_by_side(b, x)
        if both is None or both[0].shape != b.shape:
            continue
        x = both[1].to(b.dtype)
        if same(x, b, scene.tolerance):
            yield f"what the candidate {verb} is {label}"
        elif _is(a - b, x, a):
            yield f"the candidate leaves out {label}: with it added, all is equal"
        elif _is(b - a, x, a):
            yield f"the candidate adds {label}, and the reference does not"
        else:
            continue
        return


def _ids(a: Tensor, b: Tensor) -> Iterator[str]:
    if a.dtype == torch.bool:
        return
    if len(shift := (b - a).unique()) == 1:
        yield f"the candidate's ids are the reference's plus {shift.item()}"
    elif len(b.unique()) == 1:
        yield f"the candidate's ids are all {b.flatten()[0]}; the reference's are not"


def _at_hand(scene: Scene) -> Iterator[tuple[str, Tensor]]:
    yield from scene.sources
    for call in scene.reference:
        if scene.culprit in call.above():
            for note in call.outputs:
                yield f"what {call.name} gives", note.numbers
    for name, p in scene.culprit.module.named_parameters():
        if p.dim() == 1:
            yield f"{scene.culprit.name}.{name}".strip("."), p.detach()


def _is(x: Tensor, y: Tensor, scale: Tensor) -> bool:
    """Whether x is y, to the rounding of the sums that x comes from."""
    size = y.abs().max().item()
    return apart(x, y).max().item() <= 1e-5 * (scale.abs().max().item() + size) < size


def position(scene: Scene) -> Iterator[str]:
    """Whether one token's numbers, or a mean, were taken where another's should be."""
    for label, x in scene.sources:
        if x.dim() != 3 or scene.b.shape != x[:, 0].shape:
            continue
        places = {f"position {t}": x[:, t] for t in range(x.shape[1])}
        places |= {"the mean of all positions": x.mean(1), "the largest": x.amax(1)}
        if scene.tokens.seen is not None and scene.tokens.seen.shape == x.shape[:2]:
            seen = scene.tokens.seen.to(x.device)[..., None]
            places["each text's last token"] = x[torch.arange(len(x)), seen.sum((1, 2)) - 1]
            places["the mean of each text's tokens"] = (x * seen).sum(1) / seen.sum(1)
        theirs, ours = (_name(places, y, scene) for y in (scene.a, scene.b))
        if ours and ours != theirs:
            theirs = theirs or "does not"
            yield f"the candidate takes {ours} of {label}; the reference {theirs}"
            return


def function(scene: Scene) -> Iterator[str]:
    """Which function of one number makes each model's numbers from something at
    hand."""
    for label, x in scene.sources:
        both = scene.tokens.side_by_side(scene.a, x) if x.is_floating_point() else None
        if both is None or both[1].shape != scene.a.shape:
            continue
        made = {name: f(both[1]) for name, f in FUNCTIONS.items()}
        theirs, ours = (_name(made, y, scene) for y in (scene.a, scene.b))
        if theirs != ours and {theirs, ours} & (FUNCTIONS.keys() - {"itself"}):
            theirs, ours = theirs or "something else", ours or "something else"
            yield f"of {label} the reference makes {theirs}, the candidate {ours}"
            return


def _name(known: dict[str, Tensor], x: Tensor, scene: Scene) -> str | None:
    return next((name for name, y in known.items() if same(y, x, scene.tolerance)), None)
