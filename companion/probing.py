"""What a probe needs of any model: its logits, other ids, how far two differ."""

# Exported from lessons/04_tensor_operations.md: edit that, then run `make lessons`.

__all__ = ["change", "evaluating", "logits_of", "other_ids"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside; afterwards every part is in the mode it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def logits_of(model: nn.Module, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
    """The logits that a model gives ids in eval mode, gradients as the caller has them.

    The model may return them bare, first in a tuple or list, or by the name `logits`.
    In a tuple, what comes before the first tensor of three axes is passed over.
    ValueError where they are not at every position, or not numbers.
    """
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; they should be (B, T)")
    with evaluating(model):
        logits = _found(model(ids))
    if logits.shape[:2] != ids.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} for ids {tuple(ids.shape)}; "
            "a probe needs (B, T, V), logits at every position"
        )
    if logits.isnan().any():
        at = logits.isnan().nonzero()[0].tolist()
        raise ValueError(f"the model's logits are NaN, first at {at}")
    return logits


def _found(output: Any) -> Tensor:
    """The logits in what a model returned. TypeError where there are none."""
    if isinstance(output, dict):
        output = output.get("logits")
    output = getattr(output, "logits", output)
    several = output if isinstance(output, tuple | list) else (output,)
    for one in several:
        if isinstance(one, Tensor) and one.dim() == 3:
            return one
    kinds = ", ".join(
        f"a tensor {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
        for one in several
    )
    raise TypeError(
        f"no logits (B, T, V) in what the model returned ({kinds}); it should return "
        "them bare, in a tuple, or by the name `logits`"
    )


def other_ids(ids: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Another id at each place, of those that occur in ids, so that any model knows it.

    ValueError where all ids are alike.
    """
    known = ids.unique()
    if len(known) < 2:
        raise ValueError("all ids are alike; a probe needs two different ones at least")
    return known[(torch.searchsorted(known, ids.contiguous()) + 1) % len(known)]


def change(before: Tensor, after: Tensor) -> Tensor:
    """How far two tensors lie apart, number by number; 0 where both are infinite."""
    return (after - before).abs().where(after != before, 0)
