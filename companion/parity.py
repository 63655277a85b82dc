"""Where two models that should be one begin to differ, and why.

`compare` runs both on one batch, pairs up their modules, walks what these gave in the
order of execution and stops at the first tensor that differs."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Batch", "compare"]

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from companion.parity_pairs import Pair, pair_up, translation
from companion.parity_report import Comparison, by_chance, difference
from companion.parity_tokens import Tokens, far
from companion.parity_trace import Call, trace, untouched
from companion.parity_walk import first_difference
from companion.parity_weights import untied

Batch = Tensor | dict[str, Any]


@torch.no_grad()
def compare(
    reference: nn.Module,
    candidate: nn.Module,
    batch: Batch | tuple[Batch, Batch],
    *,
    mapping: Mapping[str, str] | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Whether two models return the same on a batch; if not, the first module that does
    not.

    `batch` is ids (B, T), or arguments by name, or a pair of these where the models'
    names differ: `({"input_ids": ids}, {"ids": ids})`. Where the reference's has a mask
    of zeros and ones (B, T), padding is not compared. Both models run in the mode they
    are in, so that a dropout left on is found: call `eval()` first. They run once, and
    once more where they differ, to tell chance from error. Afterwards they are as they
    were: mode, hooks, gradients, buffers, and the random state.

    Modules are paired by name and output shape, the remaining layers by order of
    execution, kind and output shape; `mapping` gives the candidate's name of a module
    of the reference, and so of those inside it. A tensor differs where its largest
    difference is over `tolerance` times what the reference's numbers usually are (root
    mean square): by default 1e-5 in float32, 1e-9 in float64. What is smaller, as an
    eps of 1e-12 for 1e-5 where variances are near 1, shows in float64:
    `model.double()`.

    ValueError where a model refuses the batch, the two return different shapes, the
    reference returns NaN, `mapping` names no module, or no module can be paired.
    """
    theirs, ours = batch if isinstance(batch, tuple) else (batch, batch)
    names = dict(mapping or {})
    _check_names(names.keys(), reference)
    _check_names(names.values(), candidate)
    with untouched(reference, candidate):
        runs = (
            _run("reference", reference, theirs, 0),
            _run("candidate", candidate, ours, 1),
        )
        tokens = Tokens.of(theirs)
        _check_returned(*runs, tokens, names)
        pairs = pair_up(*runs, tokens, names)
        scene = None
        if any(far(a, b, tolerance) > 1 for _, a, b in pairs[-1].outputs()):  # the models' own
            _check_paired(*runs, pairs)
            scene = first_difference(*runs, pairs, tokens, tolerance)
            again = trace(reference, theirs, 2), trace(candidate, ours, 3)
            first = by_chance(scene, *again) or difference(scene)
    said = first.causes if scene else ()
    return Comparison(
        first=first if scene else None,
        pairs=tuple((pair.reference.name, pair.candidate.name) for pair in pairs),
        agreed=tuple(pair.reference.name for pair in (scene.agreed() if scene else pairs)),
        notes=tuple(note for note in untied(pairs, reference, candidate) if note not in said),
    )


def _run(which: str, model: nn.Module, batch: Batch, seed: int) -> list[Call]:
    if not isinstance(batch, Tensor | dict):
        raise TypeError(
            f"the {which}'s batch is {type(batch).__name__}; it should be a tensor of "
            "ids or a "
            "dict of arguments, or the two models' in a tuple"
        )
    try:
        return trace(model, batch, seed)
    except Exception as error:
        given = ", ".join(batch) if isinstance(batch, dict) else f"ids {tuple(batch.shape)}"
        raise ValueError(
            f"the {which} refuses the batch ({given}): {type(error).__name__}: "
            f"{error}\nWhere "
            "the models name arguments differently, give a pair of dicts, the "
            "reference's first"
        ) from error


def _check_names(names: Iterable[str], model: nn.Module) -> None:
    known = [name for name, _ in model.named_modules()]
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"mapping names {wrong}; the model has {_listed(known)}")


def _listed(names: Iterable[str]) -> str:
    names = [name for name in names if name]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _check_returned(
    reference: list[Call],
    candidate: list[Call],
    tokens: Tokens,
    names: Mapping[str, str],
) -> None:
    """Raise where what the models return cannot be compared."""
    theirs, ours = ([x for _, x in calls[-1].outputs] for calls in (reference, candidate))
    met = Pair(reference[-1], candidate[-1], tokens).outputs()
    if not met or (len(theirs) == len(ours) != len(met)):
        said = [", ".join(str(tuple(x.shape)) for x in several) for several in (theirs, ours)]
        said = f"the reference returns {said[0] or 'no tensor'}, the candidate {said[1] or 'none'}"
        partner = translation({c.name for c in reference}, {c.name for c in candidate}, names)
        last = {call.name: call for call in candidate}
        for call in reference:
            other = last.get(partner.get(call.name, "?"))
            if other and call.outputs and not Pair(call, other, tokens).outputs():
                said += f"; shapes differ first at {call.name or 'the model itself'}"
                break
        raise ValueError(said)
    for _, a, _ in met:
        if a.isnan().any():
            first = next(c for c in reference if any(x.isnan().any() for _, x in c.outputs))
            raise ValueError(
                "the reference returns NaN, first from "
                f"{first.name or 'the model itself'}: "
                "nothing can be compared with it"
            )


def _check_paired(reference: list[Call], candidate: list[Call], pairs: list[Pair]) -> None:
    if len(pairs) == 1 and len(reference) > 1:
        theirs, ours = (_listed(call.name for call in calls) for calls in (reference, candidate))
        raise ValueError(
            f"the models differ, and no module of the reference ({theirs}) could be "
            "paired with "
            f"one of the candidate ({ours or 'none'}): give a mapping"
        )
