"""The first tensor that differs between two models, and the module whose doing it
is."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Scene", "first_difference"]

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from companion.parity_pairs import Met, Pair
from companion.parity_tokens import Tokens, far
from companion.parity_trace import Call, Note


@dataclass(frozen=True, eq=False, repr=False)
class Scene:
    """What is known of the first difference: all that a cause can be measured from."""

    reference: list[Call]
    candidate: list[Call]
    pairs: list[Pair]
    tokens: Tokens
    tolerance: float | None
    first: Pair  # the first two runs that give different tensors
    culprit: Call  # whose own code or weights make the difference
    partner: Call  # the candidate's: paired with it, or with the nearest module around it
    paired: bool
    handed: bool  # whether `first` was given different tensors already
    a: Tensor  # the reference's tensor where the difference is first seen
    b: Tensor  # the candidate's
    sources: list[tuple[str, Tensor]]  # what the culprit had to make it from, equal in both

    def agreed(self) -> list[Pair]:
        """The pairs before the first difference."""
        return self.pairs[: self.pairs.index(self.first)]


def first_difference(
    reference: list[Call],
    candidate: list[Call],
    pairs: list[Pair],
    tokens: Tokens,
    tolerance: float | None,
) -> Scene | None:
    """Walk the pairs in the order in which the reference's runs ended, to the first
    that differs.

    One that comes right again inside a module around it, because only its layout is
    another, is passed over. None where all are equal.
    """
    walk = _Walk(reference, pairs, tolerance)
    first = next(filter(walk.matters, pairs), None)
    if first is None:
        return None
    culprit = walk.culprit(first.reference)
    strange = walk.differing(first.inputs())
    _, a, b = (strange or walk.differing(first.outputs()))[0]
    partners = {pair.reference: pair.candidate for pair in reversed(pairs)}
    partner = next(partners[c] for c in (culprit, *culprit.above()) if c in partners)
    sources = list(walk.sources(culprit, first.reference))
    return Scene(
        reference, candidate, pairs, tokens, tolerance,
        first, culprit, partner, culprit in partners, bool(strange), a, b, sources,
    )  # fmt: skip


class _Walk:
    """Which of the reference's tensors the candidate has too."""

    def __init__(self, calls: list[Call], pairs: list[Pair], tolerance: float | None) -> None:
        self.tolerance = tolerance
        self.pairs_of = defaultdict(list)
        self.makers: dict[tuple, Call] = {}  # the first, so the innermost, to give a tensor
        self.equal = {note.key for note in calls[-1].inputs}  # the batch
        for call in calls:
            for note in call.outputs:
                self.makers.setdefault(note.key, call)
        for pair in pairs:
            self.pairs_of[pair.reference].append(pair)
            self.equal |= {note.key for note, a, b in pair.inputs() if far(a, b, tolerance) <= 1}
        for several in self.pairs_of.values():
            met = [one for pair in several for one in pair.outputs()]
            if not self.differing(met):
                self.equal |= {note.key for note, _, _ in met}

    def differing(self, met: list[Met]) -> list[Met]:
        return [one for one in met if far(*one[1:], self.tolerance) > 1]

    def matters(self, pair: Pair) -> bool:
        """Whether a pair differs, and no module around it gives what it should all the
        same."""
        if not self.differing(pair.outputs()):
            return False
        return not any(
            call.outputs and all(note.key in self.equal for note in call.outputs)
            for call in pair.reference.above()
        )

    def culprit(self, call: Call) -> Call:
        """Back from a run, through tensors that differ, to the one that was given equal
        ones.

        From a tensor to the run that gave it; or, where it was made between two runs,
        to the module whose code stands there.
        """
        visited = set()
        inner = [self.makers[note.key] for note in call.outputs if note.key not in self.equal]
        if self._strange(call) is None and inner and self._strange(inner[0]) is None:
            return inner[0]
        while call.parent is not None and call not in visited:
            visited.add(call)
            strange = self._strange(call)
            if strange is None:
                break
            maker = self.makers.get(strange.key)
            call = maker if maker and strange.key not in self.equal else call.parent
        return call

    def _strange(self, call: Call) -> Note | None:
        """The first thing that a run was given and that the candidate's was not."""
        if pairs := self.pairs_of[call]:
            strange = [one for pair in pairs for one in self.differing(pair.inputs())]
            return strange[0][0] if strange else None
        hidden = [note for note in call.inputs if note.numbers.is_floating_point()]
        hidden = [note for note in hidden if note.numbers.dim() in (2, 3)]  # no masks
        return next((note for note in hidden if note.key not in self.equal), None)

    def sources(self, culprit: Call, first: Call) -> Iterator[tuple[str, Tensor]]:
        """What was at hand inside the culprit, equal in both models, before the
        difference."""
        for note in culprit.inputs:
            yield f"what {culprit.name or 'the model'} is given", note.numbers
        for call in _inside(culprit):
            if call is not first:
                for note in call.outputs:
                    if note.key in self.equal:
                        yield f"what {call.name} gives", note.numbers


def _inside(call: Call) -> Iterator[Call]:
    for child in call.children:
        yield from _inside(child)
        yield child
