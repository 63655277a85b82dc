"""What makes the first difference between two models, as far as it can be measured."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = [
    "BETWEEN",
    "USUAL",
    "causes",
    "lost",
    "masks",
    "ordered",
    "patterns",
    "settings",
    "usually",
    "weights",
]

from collections.abc import Iterator

import torch
from torch import Tensor

from companion.parity_formulas import attention, norm
from companion.parity_order import kind
from companion.parity_pairs import is_mask, visible
from companion.parity_tokens import apart, same, usual
from companion.parity_trace import Call
from companion.parity_walk import Scene
from companion.parity_weights import differing_weights, untied
from companion.parity_wiring import function, neighbour, position


def causes(scene: Scene) -> tuple[str, list[str]]:
    """Whether weights differ or code does, and what was measured, a sentence each.

    Where nothing could be measured, what is usual at such a place.
    """
    if found := list(weights(scene)):
        return "weights", found
    tests = (lost, settings, masks, attention, ordered, position, neighbour, function)
    found = [sentence for test in tests for sentence in test(scene)]
    found = found or list(norm(scene)) or list(patterns(scene))
    return "code", found or [usually(scene)]


def lost(scene: Scene) -> Iterator[str]:
    """Numbers that are none."""
    if nan := (scene.b.isnan() & ~scene.a.isnan()).sum().item():
        yield f"{nan} numbers are NaN: scores all -inf, 0 / 0, or a negative's root"


def weights(scene: Scene) -> Iterator[str]:
    """Weights of the culprit that differ."""
    pairs = [p for p in scene.pairs if p.reference is scene.culprit]
    if pairs and not scene.handed:
        pair = scene.first if scene.first.reference is scene.culprit else pairs[0]
        yield from differing_weights(pair, scene.reference[-1].module)
        tied = untied(scene.pairs, scene.reference[-1].module, scene.candidate[-1].module)
        yield from (said for said in tied if said.startswith(f"{scene.culprit.name}."))


def settings(scene: Scene) -> Iterator[str]:
    """Numbers that both modules keep by one name, and that differ."""
    if not scene.paired:
        return
    theirs, ours = _settings(scene.culprit), _settings(scene.partner)
    for name in theirs:
        if name in ours and theirs[name] != ours[name]:
            yield f"{name} is {ours[name]!r}; in the reference it is {theirs[name]!r}"


def _settings(call: Call) -> dict[str, object]:
    plain = (bool, int, float, str)
    kept = {n: value for n, value in vars(call.module).items() if isinstance(value, plain)}
    return {n: value for n, value in kept.items() if n[0] != "_" and n != "training"}


def masks(scene: Scene) -> Iterator[str]:
    """Attention masks that differ, or are missing."""
    a, b = scene.a, scene.b
    if scene.handed and a.dtype == torch.bool:
        if (a | b).all() and (a & b).sum() < a.sum() / 2:
            yield "its mask is the other way round: it sees what the reference hides"
        else:
            yield f"its mask differs in {(a != b).sum()} of {a.numel()} places"
    if scene.paired and _hides(scene.culprit) and not _hides(scene.partner):
        if any(_ones_and_zeros(x) for _, x in scene.partner.inputs):
            yield "its mask is of numbers 1 and 0: added to scores, they hide nothing"
        else:
            yield "the reference's is given an attention mask, and the candidate's none"


def _hides(call: Call) -> bool:
    """Whether a run was given an attention mask that hides something."""
    given = [x for _, x in call.inputs if is_mask(x) and (x.dim() == 4 or x.dtype == torch.bool)]
    return any(not visible(x).all() for x in given)


def _ones_and_zeros(x: Tensor) -> bool:
    """Whether x is a mask of padding, (B, T) or (B, 1, 1, T), of floats 1 and 0."""
    return (
        x.is_floating_point()
        and x.dim() in (2, 4)
        and bool(((x == 0) | (x == 1)).all() and x.any())
    )


def ordered(scene: Scene) -> Iterator[str]:
    """A module that ran before the first difference in one model only."""
    first = scene.first
    theirs, ours = ({c: n for n, c in enumerate(x)} for x in (scene.reference, scene.candidate))
    inside = [pair for pair in scene.pairs if scene.culprit in pair.reference.above()]
    for pair in inside if scene.handed else ():
        if pair.candidate is first.candidate:
            continue
        early = theirs[pair.reference] < theirs[first.reference]
        if early != (ours[pair.candidate] < ours[first.candidate]):
            here, there = ("after", "before") if early else ("before", "after")
            name, other = pair.candidate.name, first.candidate.name
            yield f"{name} runs {here} {other}, and in the reference {there} it"
            return


def patterns(scene: Scene) -> Iterator[str]:
    """How the two tensors go together, and where they differ."""
    a, b = scene.a, scene.b
    if not a.is_floating_point() or a.dim() < 2:
        return
    ratio = ((a * b).sum() / (a * a).sum()).item()
    gap = scene.tokens.real(b - a).flatten(0, -2)  # (places, channels)
    if same(ratio * a, b, scene.tolerance):
        yield f"its numbers are the reference's times {ratio:.6g}"
    elif (gap - gap[0]).abs().max() < 1e-3 * gap.abs().max():
        yield "the difference is the same at every place, as a bias makes it"
    elif same(*(x.flatten(1).sort().values for x in (a, b)), scene.tolerance):
        yield "the reference's numbers in another order: a view for a transpose?"
    seen = scene.tokens.seen
    if seen is None or a.dim() < 3 or seen.shape != a.shape[:2]:
        return
    differs = (apart(a, b) > 1e-5 * usual(a)).flatten(2).any(2)  # (B, T)
    padded = ~seen.all(1).to(differs.device)
    if torch.equal(differs.any(1), padded) and not padded.all():
        yield "it differs in the texts with padding, and in no other: the mask"
    if not differs[:, -1].any() and seen[:, -1].all():
        yield "the last position is equal: only one looks at what comes later"
    elif not differs[:, 0].any():
        yield "the first position is equal: what came before makes the difference"


USUAL = {
    "table": "ids that are shifted, rows loaded in another order, or the wrong table",
    "matrix": "another weight or bias, or one loaded untransposed",
    "norm": "another eps, another axis, or a variance divided by C - 1",
}
BETWEEN = (
    "look at its forward: a residual or an embedding left out, pre- for post-norm, "
    "another activation, heads merged otherwise, scores not scaled, a mask not added"
)


def usually(scene: Scene) -> str:
    """What to look at where nothing could be measured."""
    paired = {pair.reference for pair in scene.pairs}
    inside = [c for c in scene.reference if scene.culprit in c.above() and kind(c)]
    alone = [call.name for call in inside if call not in paired]
    said = f"nothing of the candidate was paired with {', '.join(alone)}; " if alone else ""
    return f"{said}not measured; usual here: {USUAL.get(kind(scene.culprit), BETWEEN)}"
