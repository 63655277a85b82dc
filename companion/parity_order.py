"""Layers of two models laid side by side, in the order in which they worked."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Part", "Sign", "Unit", "in_order", "kind", "parts_of", "widths"]

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from math import isclose

import torch
from torch import Tensor

from companion.parity_tokens import Tokens, same
from companion.parity_trace import Call

Unit = Sequence[Call]  # layers that read one tensor, one after another: q, k and v
Sign = tuple[object, float]  # what a unit looks like from outside, and the size of its weights


def kind(call: Call) -> str:
    """What a layer is, by its own weights: a table, a matrix or a norm, else ""."""
    own = [p.dim() for p in call.module.parameters(recurse=False)]
    if call.children or not own or not call.inputs or not call.outputs:
        return ""
    if call.outputs[0].numbers.dim() == 0:
        return ""
    if max(own) < 2:
        return "norm"
    return "matrix" if call.inputs[0].numbers.is_floating_point() else "table"


def in_order(theirs: list[Call], ours: list[Call], tokens: Tokens) -> list[tuple[Unit, Unit]]:
    """The most layers that can be paired without crossing; of equally many, the latest.

    A pair has one kind and gives tensors of one shape. It counts thrice where both have
    the same numbers in their weights, in whatever order; such layers are paired, in the
    end, wherever they ran.
    """
    rows, columns = ([(_sign(u, tokens), u) for u in _units(calls)] for calls in (theirs, ours))
    best = [[0] * (len(columns) + 1) for _ in range(len(rows) + 1)]  # of the first i and j
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            pair = best[i][j] + _worth(row, column)
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], pair)
    found, i, j = [], len(rows), len(columns)
    while i and j:
        pair = _worth(rows[i - 1], columns[j - 1])
        if pair and best[i][j] == best[i - 1][j - 1] + pair:
            i, j = i - 1, j - 1
            found.append((rows.pop(i)[1], columns.pop(j)[1]))
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            j -= 1
    for row in rows:
        equal = next((column for column in columns if _worth(row, column) == 3), None)
        if equal:
            columns.remove(equal)
            found.append((row[1], equal[1]))
    return found


def _units(calls: list[Call]) -> Iterator[Unit]:
    def reads(call: Call) -> object:
        return (call.parent, call.inputs[0].key) if kind(call) == "matrix" else call

    for _, unit in groupby([call for call in calls if kind(call)], key=reads):
        yield list(unit)


def _sign(unit: Unit, tokens: Tokens) -> Sign:
    *places, _ = tokens.form(unit[0].outputs[0].numbers)
    weights = [p.detach() for call in unit for p in call.module.parameters()]
    size = sum(p.double().square().sum().item() for p in weights)
    return (kind(unit[0]), *places, sum(widths(unit))), size


def _worth(row: tuple[Sign, Unit], column: tuple[Sign, Unit]) -> int:
    (form, size), (other, its) = row[0], column[0]
    return 0 if form != other else 3 if isclose(size, its, rel_tol=1e-5) else 1


def widths(unit: Unit) -> list[int]:
    """How many channels each layer of a unit gives."""
    return [call.outputs[0].numbers.shape[-1] for call in unit]


Part = slice | Tensor  # which channels of a layer


def parts_of(unit: Unit, fused: Call, tokens: Tokens) -> list[Part]:
    """Where each layer's channels lie in one layer that is all of them at once.

    One behind the other; or, where both give the same numbers, wherever these are.
    """
    ends = list(accumulate(widths(unit), initial=0))
    parts = [slice(*both) for both in pairwise(ends)]
    whole = torch.cat([call.outputs[0].numbers for call in unit], dim=-1)
    met = tokens.side_by_side(whole, fused.outputs[0].numbers)
    if met is None:
        return parts
    a, b = (x.flatten(0, -2) for x in met)
    nearest = torch.cdist(a.T.double(), b.T.double()).argmin(1)  # where each channel lies there
    found = [nearest[part] for part in parts]
    in_blocks = all((at.diff() == 1).all() for at in found)
    return parts if in_blocks or not same(a, b[:, nearest]) else found
