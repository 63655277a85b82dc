"""AdamW for a GPT-2: which weights decay, and how the learning rate goes."""

# Exported from lessons/18_optimizer.md: edit that, then run `make lessons`.

__all__ = ["configure_optimizer", "decay_groups", "lr_at"]

from math import cos, pi
from typing import Any

import torch
from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: what has two axes or more decays, the rest does not.

    Matrices and tables decay; biases and LayerNorms, which have one axis, stay free. A
    tied weight comes once. Frozen parameters are left out.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {
            "params": [p for p in parameters if p.dim() >= 2],
            "weight_decay": weight_decay,
        },
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def configure_optimizer(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW over `decay_groups`, with GPT-3's betas (Brown et al. 2020, appendix B).

    `fused`: all tensors of a group are stepped in one compiled call.
    """
    groups = decay_groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused)


def lr_at(step: int, *, steps: int, lr: float, warmup: int = 0, min_lr: float = 0.0) -> float:
    """The learning rate of a step, counted from 0: up in a line, down in half a cosine.

    lr is reached by step `warmup - 1`; min_lr by step `steps`, and kept from there on.
    ValueError where warmup is more than steps, or a number is negative.
    """
    if not 0 <= warmup <= steps or step < 0 or not 0 <= min_lr <= lr:
        raise ValueError(f"{step=}, {steps=}, {warmup=}, {lr=}, {min_lr=} make no schedule")
    if step < warmup:
        return lr * (step + 1) / warmup
    if step >= steps:
        return min_lr
    done = (step - warmup) / (steps - warmup)  # 0 to 1
    return min_lr + (lr - min_lr) * (1 + cos(pi * done)) / 2
