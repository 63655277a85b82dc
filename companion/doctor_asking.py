"""What the doctor is asked with: arguments that make no sense are refused, by name."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["check_model", "check_options", "ids_and_targets"]

from typing import Any

import torch
from torch import Tensor, nn

from companion.doctor_patient import Patient
from companion.loss import IDS


def check_model(model: Any, vocab_size: Any, block_size: Any) -> None:
    """Raise where there is no model with numbers, or where sizes are none."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; it should be an nn.Module")
    for name, size, least in (
        ("vocab_size", vocab_size, 2),
        ("block_size", block_size, 1),
    ):
        if not isinstance(size, int) or isinstance(size, bool) or size < least:
            raise ValueError(f"{name}={size!r} should be a whole number, at least {least}")
    if any(x.is_meta for x in [*model.parameters(), *model.buffers()]):
        raise ValueError("the model is on the meta device, where it has no numbers; load it first")


def check_options(loss_fn: Any, optimizer: Any, budget: Any) -> None:
    """Raise where an option is none of those that there are."""
    if budget not in ("quick", "full"):
        raise ValueError(f"{budget=} should be 'quick' or 'full'")
    if loss_fn is not None and not callable(loss_fn):
        raise TypeError(f"loss_fn is {type(loss_fn).__name__}; it should be a function")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise TypeError(f"optimizer is {kind}; it should be a torch.optim.Optimizer")


def ids_and_targets(batch: Any, patient: Patient) -> tuple[Tensor | None, Tensor | None]:
    """Ids and targets, on the model's device."""
    given = list(batch) if isinstance(batch, tuple | list) else [batch]
    if batch is None:
        return None, None
    if len(given) > 2 or not all(isinstance(x, Tensor) for x in given):
        raise TypeError("batch should be ids (B, T), or a pair (ids, targets) of tensors")
    for name, x in zip(("ids", "targets"), given):
        if x.dtype not in IDS:
            raise TypeError(f"the batch's {name} are {x.dtype}; they should be torch.long")
        if x.dim() != 2 or x.numel() == 0 or x.shape != given[0].shape:
            raise ValueError(f"the batch's {name} have shape {tuple(x.shape)}; wanted is (B, T)")
    ids, V, T = given[0], patient.vocab_size, patient.block_size
    if ids.min() < 0 or ids.max() >= V:
        raise ValueError(f"the batch has ids from {ids.min()} to {ids.max()}, and vocab_size={V}")
    if ids.shape[1] > T:
        raise ValueError(f"the batch has {ids.shape[1]} tokens a text, and block_size={T}")
    moved = [x.to(patient.device).long() for x in given]
    return moved[0], moved[1] if len(moved) == 2 else None
