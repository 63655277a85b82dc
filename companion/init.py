"""GPT-2's initialisation; and what a batch looks like inside a model, layer by layer."""

# Exported from lessons/11_init_and_variance.md: edit that, then run `make lessons`.

__all__ = ["ActivationStats", "activation_stats", "init_gpt2_", "residual_std"]

from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from companion.probing import evaluating


def residual_std(n_layer: int) -> float:
    """Standard deviation of the weights that write to the residual stream.

    0.02 / sqrt(2 * n_layer): 2 * n_layer branches are added up, and their variances
    with them (Radford et al. 2019, section 2.3). ValueError for fewer than one layer.
    """
    if n_layer < 1:
        raise ValueError(f"{n_layer=} should be at least 1")
    return 0.02 / sqrt(2 * n_layer)


@torch.no_grad()
def init_gpt2_(model: nn.Module, n_layer: int) -> None:
    """Start a model as GPT-2's paper says, in place; tied tensors stay tied.

    Linear and Embedding weights: normal, 0.02. `wpe` (positions): 0.01, and every
    `c_proj` (the end of a residual branch): `residual_std(n_layer)`. Linear biases: 0.
    LayerNorm: weight 1, bias 0. Source: openai/gpt-2, src/model.py, whose c_proj has
    0.02 too; the scaling is the paper's.
    It goes by these names: a branch that ends in a Linear called otherwise is not
    scaled. ValueError for a model without any c_proj.
    """
    linears = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not any(name.endswith("c_proj") for name in linears):
        raise ValueError(
            "no Linear is named c_proj, so no residual branch would be scaled; name "
            "the last Linear of each branch so, as GPT-2 does"
        )
    small = residual_std(n_layer)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()  # weight 1, bias 0
        elif isinstance(module, nn.Linear | nn.Embedding):
            branch_ends = name.endswith("c_proj")
            std = small if branch_ends else 0.01 if name.endswith("wpe") else 0.02
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class ActivationStats:
    """Of all that a module handed on: mean, standard deviation, largest size."""

    mean: float
    std: float
    largest: float


@torch.no_grad()
def activation_stats(model: nn.Module, ids: Int[Tensor, "B T"]) -> dict[str, ActivationStats]:
    """What each module hands on for these ids, by its name, in the order they ran.

    In eval mode. The whole model goes by the name "". A module that ran again is
    "name (2)". Of several things that one returns, the first tensor of floats counts.
    """
    stats: dict[str, ActivationStats] = {}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if (x := _first_floats(output)) is not None:
            times = sum(key == name or key.startswith(f"{name} (") for key in stats)
            key = name if times == 0 else f"{name} ({times + 1})"
            x = x.float()
            largest = x.abs().max().item()
            std = x.std(correction=0).item()
            stats[key] = ActivationStats(x.mean().item(), std, largest)

    handles = [
        module.register_forward_hook(partial(note, name)) for name, module in model.named_modules()
    ]
    try:
        with evaluating(model):
            model(ids)
    finally:
        for handle in handles:
            handle.remove()
    return stats


def _first_floats(output: Any) -> Tensor | None:
    """The first tensor of floats in what a module returned, however it is wrapped."""
    output = getattr(output, "logits", output)
    if isinstance(output, Tensor):
        return output if output.is_floating_point() and output.numel() else None
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        return next((x for one in output if (x := _first_floats(one)) is not None), None)
    return None
