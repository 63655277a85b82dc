"""How many operations a token takes, how many a machine can do, and the share it does."""

# Exported from lessons/17_speed.md: edit that, then run `make lessons`.

__all__ = ["flops_per_token", "measured_peak_flops", "mfu"]

from collections.abc import Callable
from time import perf_counter

import torch
from torch import nn


def flops_per_token(model: nn.Module, T: int) -> float:
    """Floating-point operations to train on one token: 6 N + 12 L C T.

    Two (multiply, add) a weight forward and four backward, for each of N parameters
    that a matrix product uses: all but the position table. Attention adds 12 T C a
    layer
    (Chowdhery et al. 2022, PaLM, appendix B). What is masked counts, as is usual.
    `model` has GPT's names. ValueError for T under 1.
    """
    if T < 1:
        raise ValueError(f"{T=} should be at least 1")
    N = sum(p.numel() for p in model.parameters()) - model.wpe.weight.numel()
    if model.lm_head.weight is not model.wte.weight:
        N -= model.wte.weight.numel()  # looked up, not multiplied
    C, L = model.wte.weight.shape[1], len(model.h)
    return 6.0 * N + 12.0 * L * C * T


def mfu(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    """Model FLOPs utilisation: the share of a machine's peak that is used, 0 to 1.

    ValueError for a peak that is not positive.
    """
    if not peak_flops > 0:
        raise ValueError(f"{peak_flops=} should be positive")
    return tokens_per_second * flops_per_token / peak_flops


@torch.no_grad()
def measured_peak_flops(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    size: int | None = None,
    seconds: float = 0.5,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """The most operations a second that square matrix products of a size reach here.

    The best of as many tries as fit into `seconds`, after one that does not count.
    On a busy machine, time.process_time as the clock has it for one busy thread.
    Size: 2048 on a CPU, 8192 on a GPU, where the clock waits for the product.
    """
    device = torch.device(device)
    n = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best, start = float("inf"), None
    while start is None or perf_counter() - start < seconds:
        _synchronise(device)
        before = clock()
        a @ b
        _synchronise(device)
        if start is None:
            start = perf_counter()
        else:
            best = min(best, clock() - before)
    if best == float("inf"):
        return measured_peak_flops(device, dtype, size=n, seconds=10 * seconds, clock=clock)
    return 2.0 * n**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
