"""Ways from scores (B, nh, T, T) to causal weights, one right, and how some wrong ones show."""

import torch
from torch import Tensor

INF = float("inf")
FAR = 50.0  # a score as large as this is in the probe whose weights float32 cannot hold
NUMBERS = (
    *(-0.1, -0.5, -1, -2, -3, -4, -5, -8, -10, -15, -20, -30, -50, -60, -80),
    *(-n * ten for ten in (100, 1000, 10_000, 100_000) for n in (1, 1.5, 2, 2.5, 3, 4, 5, 8, 9)),
)


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


def exps_filled(scores: Tensor, block_size: int) -> Tensor:
    exps = scores.exp().masked_fill(~seen(scores), 0)
    return exps / exps.sum(-1, keepdim=True)


def exps_multiplied(scores: Tensor, block_size: int) -> Tensor:
    exps = scores.exp() * seen(scores)
    return exps / exps.sum(-1, keepdim=True)


def three_axes(scores: Tensor, block_size: int) -> Tensor:
    _B, _T, _C = scores.shape
    return scores


def two_axes(scores: Tensor, block_size: int) -> Tensor:
    _T, _C = scores.shape
    return scores


def by_zeros(scores: Tensor, block_size: int) -> Tensor:
    lower = scores.tril()
    return lower.masked_fill(lower == 0, -INF).softmax(-1)


def corner(size: int, scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    return may_look(size)[:T, :T]


def average(scores: Tensor, block_size: int) -> Tensor:
    mask = seen(scores).float()
    return mask / mask.sum(-1, keepdim=True)


def is_renormalised(got: Tensor, want: Tensor, scores: Tensor, block_size: int) -> bool:
    """Right while the hidden scores are moderate; where they are far larger, it is not."""
    if got.shape != want.shape:
        return False
    if got.triu(1).nan_to_num().any():  # it gives the future nothing, whatever else
        return False
    return _same(got, want) != ((scores.max() - scores.min()) > FAR).item()


def hides_with_a_number(got: Tensor, want: Tensor, scores: Tensor, block_size: int) -> bool:
    """Whether some number of no great size was put in place of the hidden scores."""
    if got.shape != want.shape:
        return False
    return any(_same(got, with_value(number, scores)) for number in NUMBERS)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)
