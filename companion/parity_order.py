"""Layers of two models laid side by side, in the order in which they worked."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Sign", "Unit", "in_order", "kind", "parts", "widths"]

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from math import isclose

from companion.parity_tokens import Tokens
from companion.parity_trace import Call

Unit = Sequence[Call]  # layers that read one tensor, one after another: q, k and v
Sign = tuple[object, float]  # what a unit looks like from outside, and the size of its weights


def kind(call: Call) -> str:
    """What a layer is, by its own weights: a table, a matrix or a norm; "" for none of
    them."""
    own = [p.dim() for p in call.module.parameters(recurse=False)]
    if call.children or not own or not call.inputs or not call.outputs:
        return ""
    if max(own) < 2:
        return "norm"
    return "matrix" if call.inputs[0].numbers.is_floating_point() else "table"


def in_order(theirs: list[Call], ours: list[Call], tokens: Tokens) -> list[tuple[Unit, Unit]]:
    """The most layers that can be paired without crossing; of equally many, the latest.

    A pair has one kind and gives tensors of one shape. It counts thrice where both have
    the same numbers in their weights, in whatever order.
    """
    rows, columns = list(_units(theirs)), list(_units(ours))
    signs = (
        [_sign(unit, tokens) for unit in rows],
        [_sign(unit, tokens) for unit in columns],
    )
    worth = [[_worth(one, other) for other in signs[1]] for one in signs[0]]
    best = [[0] * (len(columns) + 1) for _ in range(len(rows) + 1)]  # of the first i and j
    for i, row in enumerate(worth):
        for j, pair in enumerate(row):
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], best[i][j] + pair)
    found, i, j = [], len(rows), len(columns)
    while i and j:
        pair = worth[i - 1][j - 1]
        if pair and best[i][j] == best[i - 1][j - 1] + pair:
            i, j = i - 1, j - 1
            found.append((rows[i], columns[j]))
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return found[::-1]


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


def _worth(one: Sign, other: Sign) -> int:
    if one[0] != other[0]:
        return 0
    return 3 if isclose(one[1], other[1], rel_tol=1e-5) else 1


def widths(unit: Unit) -> list[int]:
    """How many channels each layer of a unit gives."""
    return [call.outputs[0].numbers.shape[-1] for call in unit]


def parts(unit: Unit) -> list[slice]:
    """Where each layer's channels lie in a layer that is all of them at once."""
    return [slice(*ends) for ends in pairwise(accumulate(widths(unit), initial=0))]
