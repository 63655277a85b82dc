"""The first tensor that differs between two models, and whose doing it is."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Scene", "first_difference"]

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from companion.parity_pairs import Met, Pair, is_mask
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
    partner: Call  # paired with the culprit; else the candidate's module that does its work
    paired: bool
    handed: bool  # whether `first` was given different tensors already
    a: Tensor  # the reference's tensor where the difference is first seen
    b: Tensor  # the candidate's
    agreed: list[Pair]  # those before `first` that give the same
    sources: list[tuple[str, Tensor]]  # what the culprit had to make it from, equal in both


def first_difference(
    reference: list[Call],
    candidate: list[Call],
    pairs: list[Pair],
    tokens: Tokens,
    tolerance: float | None,
) -> Scene:
    """Walk the pairs, in the order in which the reference's ended, to the first.

    One that comes right again inside a module around it, because only its layout is
    another, is passed over. What the models return is known to differ: the last pair.
    """
    walk = _Walk(reference, pairs, tolerance)
    first = next(filter(walk.matters, pairs))
    culprit = walk.culprit(first.reference)
    strange = walk.differing(first.inputs)
    _, a, b = (strange or walk.differing(first.outputs))[0]
    partners = {pair.reference: pair.candidate for pair in (*pairs, first)}
    nearest = next(partners[c] for c in (culprit, *culprit.above()) if c in partners)
    others = set(partners.values()) - {nearest}
    around = (first.candidate, *first.candidate.above())
    partner = next((call for call in around if call not in others), nearest)
    partner = nearest if culprit in partners else partner
    before = pairs[: pairs.index(first)]
    agreed = [pair for pair in before if not walk.differing(pair.outputs)]
    sources = list(walk.sources(culprit, first.reference))
    return Scene(
        reference=reference,
        candidate=candidate,
        pairs=pairs,
        tokens=tokens,
        tolerance=tolerance,
        first=first,
        culprit=culprit,
        partner=partner,
        paired=culprit in partners,
        handed=bool(strange),
        a=a,
        b=b,
        agreed=agreed,
        sources=sources,
    )


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
            self.equal |= {note.key for note, a, b in pair.inputs if far(a, b, tolerance) <= 1}
        for several in self.pairs_of.values():
            met = [one for pair in several for one in pair.outputs]
            if not self.differing(met):
                self.equal |= {note.key for note, _, _ in met}

    def differing(self, met: list[Met]) -> list[Met]:
        return [one for one in met if far(*one[1:], self.tolerance) > 1]

    def matters(self, pair: Pair) -> bool:
        """Whether a pair differs, and no module around it comes out right."""
        around = pair.reference.above()
        return bool(self.differing(pair.outputs)) and not any(map(self._settled, around))

    def _settled(self, call: Call) -> bool:
        if pairs := self.pairs_of[call]:
            return not any(self.differing(pair.outputs) for pair in pairs)
        return bool(call.outputs) and all(note.key in self.equal for note in call.outputs)

    def culprit(self, call: Call) -> Call:
        """Back from a run, through tensors that differ, to one given equal ones.

        From a tensor to the run that gave it or, where it was made between two runs,
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
            strange = [one for pair in pairs for one in self.differing(pair.inputs)]
            return strange[0][0] if strange else None
        new = [note for note in call.inputs if note.key not in self.equal]
        new = [note for note in new if note.numbers.is_floating_point()]
        return next((note for note in new if not is_mask(note.numbers)), None)

    def sources(self, culprit: Call, first: Call) -> Iterator[tuple[str, Tensor]]:
        """What the culprit had at hand before the difference, equal in both models."""
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
