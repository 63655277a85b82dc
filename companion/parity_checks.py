"""What two models can be compared on: errors that say which of them refuses what."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Batch", "both_batches", "check_names", "check_paired", "check_returned", "run"]

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from companion.parity_pairs import Pair, translation
from companion.parity_tokens import Tokens
from companion.parity_trace import Call, trace

Batch = Tensor | Mapping[str, Any]


def both_batches(batch: Batch | tuple[Batch, Batch]) -> tuple[Batch, Batch]:
    """The reference's batch and the candidate's. TypeError for what is none."""
    both = batch if isinstance(batch, tuple) else (batch, batch)
    if len(both) != 2:
        raise TypeError(
            f"the batch is a tuple of {len(both)}; it should be ids, a dict of "
            "arguments, or a pair of these, the reference's and the candidate's"
        )
    for one in both:
        if not isinstance(one, Tensor | Mapping):
            raise TypeError(
                f"a batch is {type(one).__name__}; it should be a tensor of ids, or a "
                "dict of arguments"
            )
    return tuple(dict(one) if isinstance(one, Mapping) else one for one in both)


def run(which: str, model: nn.Module, batch: Batch, seed: int) -> list[Call]:
    """All runs of a model's modules on its batch; ValueError where it refuses it."""
    try:
        return trace(model, batch, seed)
    except Exception as error:
        given = ", ".join(batch) if isinstance(batch, dict) else f"ids {tuple(batch.shape)}"
        raise ValueError(
            f"the {which} refuses the batch ({given}): {type(error).__name__}: "
            f"{error}\n"
            "Where the models name arguments differently, give a pair of dicts, the "
            "reference's first"
        ) from error


def check_names(names: Iterable[str], model: nn.Module) -> None:
    """Raise where a mapping names what is no module."""
    known = [name for name, _ in model.named_modules()]
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"mapping names {wrong}; the model has {_listed(known)}")


def _listed(names: Iterable[str]) -> str:
    names = [name for name in names if name]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def check_returned(
    reference: list[Call],
    candidate: list[Call],
    tokens: Tokens,
    names: Mapping[str, str],
) -> None:
    """Raise where what the models return cannot be compared."""
    theirs, ours = ([x for _, x in calls[-1].outputs] for calls in (reference, candidate))
    met = Pair(reference[-1], candidate[-1], tokens).outputs
    if not met or (len(theirs) == len(ours) != len(met)):
        said = [", ".join(str(tuple(x.shape)) for x in several) for several in (theirs, ours)]
        theirs, ours = said[0] or "no tensor", said[1] or "none"
        said = f"the reference returns {theirs}, the candidate {ours}"
        partner = translation({c.name for c in reference}, {c.name for c in candidate}, names)
        last = {call.name: call for call in candidate}
        for call in reference:
            other = last.get(partner.get(call.name, "?"))
            if other and call.outputs and not Pair(call, other, tokens).outputs:
                said += f"; shapes differ first at {call.name or 'the model itself'}"
                break
        raise ValueError(said)
    for _, a, _ in met:
        if a.isnan().any():
            first = next(c for c in reference if any(x.isnan().any() for _, x in c.outputs))
            raise ValueError(
                "the reference returns NaN, first from "
                f"{first.name or 'the model itself'}: nothing can be compared with it"
            )


def check_paired(reference: list[Call], candidate: list[Call], pairs: list[Pair]) -> None:
    """Raise where nothing but the models themselves is a pair."""
    if len(pairs) == 1 and len(reference) > 1:
        theirs, ours = (_listed(call.name for call in calls) for calls in (reference, candidate))
        raise ValueError(
            f"the models differ, and no module of the reference ({theirs}) could be "
            f"paired with one of the candidate ({ours or 'none'}): give a mapping"
        )
