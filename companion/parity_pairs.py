"""Which module of one model is which of another: by name and shape, else by order."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["WHOLE", "Met", "Pair", "is_mask", "pair_up", "translation", "visible"]

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from companion.parity_order import Part, in_order, parts_of, widths
from companion.parity_tokens import Tokens, same
from companion.parity_trace import Call, Note

WHOLE = None  # all channels of a layer
Met = tuple[Note, Tensor, Tensor]  # the reference's, and both models' numbers in one shape


@dataclass(frozen=True, eq=False, repr=False)
class Pair:
    """Two runs that should give the same; of a fused layer, the part that does."""

    reference: Call
    candidate: Call
    tokens: Tokens
    reference_part: Part | None = WHOLE  # of the channels that it gives
    candidate_part: Part | None = WHOLE

    @cached_property
    def outputs(self) -> list[Met]:
        """What both gave back, side by side."""
        ours = [_part(x, self.candidate_part) for _, x in self.candidate.outputs]
        found = []
        for note in self.reference.outputs:
            a = _part(note.numbers, self.reference_part)
            for n, b in enumerate(ours):
                if (both := self.tokens.side_by_side(a, b)) is not None:
                    found.append((note, *both))
                    del ours[n]
                    break
        return found

    @cached_property
    def inputs(self) -> list[Met]:
        """What both were given, side by side; attention masks as booleans, `visible`.

        What only one of them was given is left out, and so is what cannot be compared.
        """
        ours = [x for _, x in self.candidate.inputs]
        found = []
        for note in self.reference.inputs:
            fits = [(n, both) for n, b in enumerate(ours) if (both := self._alike(note.numbers, b))]
            if fits:
                n, (a, b) = next((fit for fit in fits if same(*fit[1])), fits[0])
                del ours[n]
                found.append((note, a, b))
        return found

    def _alike(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor] | None:
        if 4 in (a.dim(), b.dim()) and is_mask(a) and is_mask(b):
            try:
                return torch.broadcast_tensors(visible(a), visible(b))
            except RuntimeError:
                return None
        return self.tokens.side_by_side(a, b)


def _part(x: Tensor, channels: Part | None) -> Tensor:
    return x if channels is WHOLE else x[..., channels]


def is_mask(x: Tensor) -> bool:
    """Whether a tensor may be an attention mask, (B, T) or (B, 1, T, T).

    Booleans, zeros and ones, or what is added to scores: 0, where hidden hugely less.
    """
    if x.is_floating_point():
        return x.dim() == 4 and bool(((x == 0) | (x < -1e3)).all())
    return x.dim() in (2, 4) and (x.dtype == torch.bool or not (x & ~1).any())


def visible(mask: Tensor) -> Tensor:
    """An attention mask as booleans (B, 1, T, T): which keys a query may see."""
    if mask.is_floating_point():
        mask = mask > -1  # added to scores: 0 where seen, hugely negative where not
    return (mask[:, None, None] if mask.dim() == 2 else mask).bool()


def pair_up(
    reference: list[Call],
    candidate: list[Call],
    tokens: Tokens,
    mapping: Mapping[str, str],
) -> list[Pair]:
    """Pairs of runs, in the order of the reference.

    Modules of one name (after `mapping`, and but for a prefix that one model has more)
    are a pair where their outputs have one shape, the nth run with the nth. The other
    layers with weights are laid side by side in order of execution, by kind and output
    shape; some that read one tensor may face one that is as wide as all.
    """
    names = translation({c.name for c in reference}, {c.name for c in candidate}, mapping)
    runs = defaultdict(list)
    for call in candidate:
        runs[call.name].append(call)
    pairs, nth = [], defaultdict(int)
    for call in reference:
        others = runs[names.get(call.name)]
        if nth[call.name] < len(others):
            pair = Pair(call, others[nth[call.name]], tokens)
            pairs += [pair] * bool(pair.outputs)
        nth[call.name] += 1
    paired = {call for pair in pairs for call in (pair.reference, pair.candidate)}
    left = ([c for c in calls if c not in paired] for calls in (reference, candidate))
    for theirs, ours in in_order(*left, tokens):
        if widths(theirs) == widths(ours):
            pairs += [Pair(one, other, tokens) for one, other in zip(theirs, ours)]
        elif len(ours) == 1:
            parts = parts_of(theirs, ours[0], tokens)
            pairs += [Pair(one, ours[0], tokens, WHOLE, part) for one, part in zip(theirs, parts)]
        elif len(theirs) == 1:
            parts = parts_of(ours, theirs[0], tokens)
            pairs += [Pair(theirs[0], one, tokens, part, WHOLE) for one, part in zip(ours, parts)]
    place = {call: n for n, call in enumerate(reference)}
    return sorted(pairs, key=lambda pair: place[pair.reference])


def translation(
    theirs: Collection[str], ours: Collection[str], mapping: Mapping[str, str]
) -> dict[str, str]:
    """The candidate's name of each of the reference's modules, where there is one."""
    names = {n: m for n in theirs if (m := _mapped(n, mapping)) != n and m in ours}
    names |= {n: n for n in theirs if n not in names and n in ours and n not in names.values()}
    theirs, ours = set(theirs) - names.keys(), set(ours) - set(names.values())
    prefixes = {n.rsplit(".", k)[0] + "." for n in theirs | ours for k in range(n.count(".") + 1)}
    prefixes = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    found = [{n: n.removeprefix(p) for n in theirs if n.removeprefix(p) in ours} for p in prefixes]
    found += [{n: p + n for n in theirs if p + n in ours} for p in prefixes]
    return names | max(found, key=len, default={})


def _mapped(name: str, mapping: Mapping[str, str]) -> str:
    """A name by the mapping: its own entry, else the nearest module's around it."""
    start, end = name, ""
    while start not in mapping and start:
        start, _, last = start.rpartition(".")
        end = f".{last}{end}"
    return f"{mapping[start]}{end}".strip(".") if start in mapping else name
