"""What a comparison of two models found, to be read by a person or a program."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Comparison", "Difference", "by_chance", "difference"]

from dataclasses import dataclass, replace
from textwrap import fill

import torch

from companion.parity_causes import causes
from companion.parity_tokens import apart, far, usual
from companion.parity_trace import Call, Note, copied, tensors_in
from companion.parity_walk import Scene


@dataclass(frozen=True)
class Difference:
    """The first tensor that differs, and whose doing it is. The model itself is "".

    `module` is the one whose weights or code make the difference, by the reference's
    name. `counterpart` is the candidate's module that is paired with it or, where none
    is, the one whose code does its work. `first` gave the first tensor that differs:
    `module` itself, or one that was handed other numbers by it.
    """

    module: str
    counterpart: str
    kind: str  # "weights", "code", or "chance": one of the models differs from itself
    first: str
    first_counterpart: str
    size: float  # the largest difference
    scale: float  # what the reference's numbers usually are there: root mean square
    share: float  # of the numbers, how many differ
    where: dict[str, int]  # the largest difference's batch, position and channel
    values: tuple[float, float]  # there, the reference's and the candidate's
    replayed: bool | None  # given the reference's input, does `first` give its output?
    causes: tuple[str, ...]

    def __str__(self) -> str:
        where = ", ".join(f"{axis} {at}" for axis, at in self.where.items())
        theirs, ours = self.values
        first = _named(self.first, self.first_counterpart) if self.first != self.module else "it"
        lines = [
            f"seen first in what {first} gives, at {where}: "
            f"{theirs:.5g} in the reference, {ours:.5g} in the candidate",
            f"{self.share:.0%} of its numbers differ, by up to {self.size:.2g}; "
            f"they are about {self.scale:.2g}",
        ]
        if self.replayed is not None:
            gives = "the reference's output" if self.replayed else "another output: it differs too"
            lines.append(f"given the reference's input, it gives {gives}")
        lines += [f"- {cause}" for cause in self.causes]
        kind = "chance in" if self.kind == "chance" else f"the {self.kind} of"
        title = f"not equal: {kind} {_named(self.module, self.counterpart)}"
        wrapped = [fill(line, 96, initial_indent="  ", subsequent_indent="    ") for line in lines]
        return "\n".join([title, *wrapped])


def _named(theirs: str, ours: str) -> str:
    theirs, ours = (name or "the whole model" for name in (theirs, ours))
    return theirs if theirs == ours else f"{theirs} (in the candidate {ours})"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two models on one batch. True where all that they return is equal to rounding."""

    first: Difference | None
    pairs: tuple[tuple[str, str], ...]  # the modules paired, in order of execution
    agreed: tuple[str, ...]  # the reference's, up to the first difference
    notes: tuple[str, ...]  # what differs without changing a number

    @property
    def equal(self) -> bool:
        return self.first is None

    def __bool__(self) -> bool:
        return self.equal

    def __repr__(self) -> str:
        n = len(self.pairs)
        lines = [f"equal, to rounding: {n} pairs of modules"] if self.equal else [str(self.first)]
        if self.agreed and not self.equal:
            last = self.agreed[-1]
            lines.append(f"  {len(self.agreed)} of {n} pairs agree before it, the last {last}")
        return "\n".join([*lines, *(fill(f"note: {note}", 96) for note in self.notes)])


def difference(scene: Scene) -> Difference:
    """The first difference of a scene, and what was measured about it."""
    pair, culprit, partner = scene.first, scene.culprit, scene.partner
    _, a, b = max(pair.outputs, key=lambda met: far(*met[1:], scene.tolerance))
    off = apart(a, b)
    at = tuple(int(n) for n in torch.unravel_index(off.argmax(), off.shape))
    scale = usual(a)
    kind, measured = causes(scene)
    return Difference(
        module=culprit.name,
        counterpart=partner.name,
        kind=kind,
        first=pair.reference.name,
        first_counterpart=pair.candidate.name,
        size=off[at].item(),
        scale=scale,
        share=(scene.tokens.real(off) > 1e-5 * scale).double().mean().item(),
        where=dict(zip(scene.tokens.axes(a), at)),
        values=(a[at].item(), b[at].item()),
        replayed=_replayed(scene),
        causes=tuple(measured),
    )


def _replayed(scene: Scene) -> bool | None:
    """Whether the candidate's layer, given the reference's input, gives its output.

    None where the layer was handed them anyway, or takes more than one tensor.
    """
    theirs, ours = scene.first.reference, scene.first.candidate
    if not scene.handed or ours.children or len(theirs.inputs) != 1 or len(ours.inputs) != 1:
        return None
    x, own = theirs.inputs[0].numbers, ours.inputs[0].numbers
    if x.numel() != own.numel():
        return None
    args, kwargs = copied(ours.args, lambda _: x.reshape(own.shape).to(own))
    try:
        outputs = [Note((), y) for y in tensors_in(ours.module(*args, **kwargs))]
    except Exception:  # ids that it has no row for, say
        return None
    pair = replace(scene.first, candidate=replace(ours, outputs=outputs))
    return all(far(a, b, scene.tolerance) <= 1 for _, a, b in pair.outputs)


def by_chance(scene: Scene, theirs: list[Call], ours: list[Call]) -> Difference | None:
    """The first difference as chance, where a model does not repeat itself so far.

    `theirs` and `ours` are a second run of each, with other random numbers.
    """
    for which, runs, again, first in (
        ("candidate", scene.candidate, ours, scene.first.candidate),
        ("reference", scene.reference, theirs, scene.first.reference),
    ):
        varying = next((c for c, d in zip(runs, again) if _varies(c, d, scene)), None)
        if varying is None or runs.index(varying) > runs.index(first):
            continue
        pairs = {getattr(pair, which): pair for pair in scene.pairs}
        pair = next(pairs[call] for call in (varying, *varying.above()) if call in pairs)
        on = [n for n, m in runs[-1].module.named_modules() if m.training and getattr(m, "p", 0)]
        said = f"the {which} gives other numbers in each run, first in {varying.name}"
        modes = f"{which}.eval() turns off {', '.join(on[:3])}" + " and others" * (len(on) > 3)
        return replace(
            difference(scene),
            module=pair.reference.name,
            counterpart=pair.candidate.name,
            kind="chance",
            replayed=None,
            causes=(
                said,
                modes if on else "no Dropout is in train mode: is one in its code?",
            ),
        )
    return None


def _varies(call: Call, again: Call, scene: Scene) -> bool:
    return any(
        x.shape != y.shape or far(x, y, scene.tolerance) > 1
        for (_, x), (_, y) in zip(call.outputs, again.outputs)
    )
