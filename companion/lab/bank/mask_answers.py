"""Ways from scores (B, nh, T, T) to causal weights, one right, and how some wrong ones show."""

import torch
from torch import Tensor

INF = float("inf")
FAR = 50.0  # a score as large as this is in the probe whose weights float32 cannot hold
NUMBERS = (-0.1, -0.5, -1, -2, -3, -4, -5, -8, -10, -15, -20, -30, -50, -60, -80, -100, -1000)


def may_look(T: int, diagonal: int = 0) -> Tensor:
    return torch.ones(T, T, dtype=torch.bool).tril(diagonal)


def seen(scores: Tensor, diagonal: int = 0) -> Tensor:
    return may_look(scores.shape[-1], diagonal)


def filled(scores: Tensor, mask: Tensor, value: float = -INF, dim: int = -1) -> Tensor:
    return scores.masked_fill(~mask, value).softmax(dim)


def reference(scores: Tensor, block_size: int) -> Tensor:
    return filled(scores, may_look(block_size)[: scores.shape[-1], : scores.shape[-1]])


def with_value(value: float, scores: Tensor) -> Tensor:
    return filled(scores, seen(scores), value)


def over(dim: int, scores: Tensor) -> Tensor:
    return filled(scores, seen(scores), dim=dim)


def zeros_after(scores: Tensor, block_size: int) -> Tensor:
    return scores.softmax(-1) * seen(scores)


def renormalised(scores: Tensor, block_size: int) -> Tensor:
    weights = zeros_after(scores, block_size)
    return weights / weights.sum(-1, keepdim=True)


def average(scores: Tensor, block_size: int) -> Tensor:
    mask = seen(scores).float()
    return mask / mask.sum(-1, keepdim=True)


def is_renormalised(got: Tensor, want: Tensor, scores: Tensor, block_size: int) -> bool:
    """Right while the hidden scores are moderate; where they are far larger, it is not."""
    if got.shape != want.shape:
        return False
    return _same(got, want) != (scores.abs().max() > FAR).item()


def hides_with_a_number(got: Tensor, want: Tensor, scores: Tensor, block_size: int) -> bool:
    """Whether some number of no great size was put in place of the hidden scores."""
    if got.shape != want.shape:
        return False
    return any(_same(got, with_value(number, scores)) for number in NUMBERS)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)
