"""Where two models that should be one begin to differ, and why.

`compare` runs both on one batch, pairs up their modules, walks what these gave in the
order of execution and stops at the first tensor that differs."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["compare"]

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from companion.parity_checks import (
    Batch,
    both_batches,
    check_names,
    check_paired,
    check_returned,
    run,
)
from companion.parity_pairs import Pair, pair_up
from companion.parity_report import Comparison, by_chance, difference
from companion.parity_tokens import ROUNDING, Tokens, apart, far
from companion.parity_trace import copied, trace, untouched
from companion.parity_walk import first_difference
from companion.parity_weights import untied


@torch.no_grad()
def compare(
    reference: nn.Module,
    candidate: nn.Module,
    batch: Batch | tuple[Batch, Batch],
    *,
    mapping: Mapping[str, str] | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Whether two models return the same; if not, the first module that does not.

    `batch` is ids (B, T), or arguments by name, or a pair of these where the models'
    names differ: `({"input_ids": ids}, {"ids": ids})`. Where the reference's has a mask
    of zeros and ones (B, T), padding is not compared. Both models run in the mode they
    are in, so that a dropout left on is found: call `eval()` first. Where they differ,
    they run once more, to tell chance from error, and copies of them in float64, to
    tell rounding from error. Afterwards they are as they were: mode, hooks, gradients,
    buffers, and the random state.

    Modules are paired by name and output shape, the remaining layers by order of
    execution, kind and output shape; `mapping` gives the candidate's name of a module
    of the reference, and so of those inside it. Numbers a and b differ where |a - b| is
    over `tolerance` times the sum of |a| and of what the tensor's numbers usually are
    (root mean square): by default 1e-5 in float32. With a `tolerance`, there is no
    float64 run. An eps of 1e-12 for 1e-5 shows in float32 where variances are under
    0.1 or so, and otherwise once the models are `double()`.

    ValueError where a model refuses the batch, the two return different shapes, the
    reference returns NaN, `mapping` names no module, or no module can be paired.
    """
    theirs, ours = both_batches(batch)
    names = dict(mapping or {})
    check_names(names.keys(), reference)
    check_names(names.values(), candidate)
    first = None
    with untouched(reference, candidate):
        calls = run("reference", reference, theirs, 0)
        others = run("candidate", candidate, ours, 1)
        tokens = Tokens.of(theirs)
        check_returned(calls, others, tokens, names)
        pairs = agreed = pair_up(calls, others, tokens, names)
        whole = pairs[-1]  # the models themselves
        if any(far(a, b, tolerance) > 1 for _, a, b in whole.outputs):
            check_paired(calls, others, pairs)
            scene = first_difference(calls, others, pairs, tokens, tolerance)
            again = trace(reference, theirs, 2), trace(candidate, ours, 3)
            first, agreed = by_chance(scene, *again), scene.agreed
            if first is None and tolerance is None and _may_be_rounding(whole):
                exact = _in_float64(reference, candidate, (theirs, ours), names)
                if exact is not None:
                    return exact
            first = first or difference(scene)
    notes = list(untied(pairs, reference, candidate))
    return Comparison(
        first=first,
        pairs=tuple((pair.reference.name, pair.candidate.name) for pair in pairs),
        agreed=tuple(pair.reference.name for pair in agreed),
        notes=tuple(note for note in notes if not first or note not in first.causes),
    )


def _may_be_rounding(whole: Pair) -> bool:
    """Whether a difference is finite, and of numbers with fewer digits than float64."""
    met = [(a, b) for _, a, b in whole.outputs]
    coarse = any(torch.float64 not in (a.dtype, b.dtype) for a, b in met)
    return coarse and all(apart(a, b).isfinite().all() for a, b in met)


def _in_float64(
    reference: nn.Module,
    candidate: nn.Module,
    batches: tuple[Batch, Batch],
    names: dict[str, str],
) -> Comparison | None:
    """The same comparison of copies in float64, where rounding is far below any error.

    None where it cannot be had: a model may not be copied, or insist on its dtype.
    """
    try:
        models = [deepcopy(model).double() for model in (reference, candidate)]
        batches = copied(batches, _double)
        tolerance = ROUNDING[torch.float64]
        exact = compare(*models, batches, mapping=names, tolerance=tolerance)
    except Exception:
        return None
    if exact:
        note = "they differ as they are, and in float64 do not: rounding"
        exact = replace(exact, notes=(*exact.notes, note))
    return exact


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
