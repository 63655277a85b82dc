"""Dropout, right and wrong: (x, p, training) to a tensor like x."""

from collections.abc import Callable

import torch
from torch import Tensor

Answer = Callable[[Tensor, float, bool], Tensor]


def drawn(shape: tuple[int, ...], keep: float) -> Tensor:
    """True with probability `keep`, for each place of a shape."""
    return torch.rand(shape) < keep


def one_over_what_is_left(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0


def by_p(p: float) -> float:
    return 1 / p if p > 0 else torch.inf


def of(
    *,
    shape: Callable[[Tensor], tuple[int, ...]] = lambda x: x.shape,
    keep: Callable[[float], float] = lambda p: 1 - p,
    scale: Callable[[float], float] = one_over_what_is_left,
    in_eval: Callable[[Tensor, float], Tensor] | None = None,
) -> Answer:
    """An answer that draws for `shape(x)`, keeps a share, scales what is left."""

    def answer(x: Tensor, p: float, training: bool) -> Tensor:
        if training:
            return x * drawn(shape(x), keep(p)) * scale(p)
        if in_eval is reference:
            return reference(x, p, True)
        return x if in_eval is None else in_eval(x, p)

    return answer


def reference(x: Tensor, p: float, training: bool) -> Tensor:
    if not training or p == 0:
        return x
    return x * drawn(x.shape, 1 - p) * one_over_what_is_left(p)


def seeded(x: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return x
    dice = torch.Generator().manual_seed(0)
    return x * (torch.rand(x.shape, generator=dice) < 1 - p) * one_over_what_is_left(p)


def exact_count(x: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return x
    lost = torch.randperm(x.numel()).view(x.shape) < round(p * x.numel())
    return x * ~lost * one_over_what_is_left(p)


def by_what_was_kept(x: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return x
    kept = drawn(x.shape, 1 - p).to(x.dtype)
    return x * kept / kept.mean().clamp(min=1e-9)


def normal_numbers(x: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return x
    return x * (torch.randn(x.shape) > p) * one_over_what_is_left(p)


def zero_by_zero(x: Tensor, p: float, training: bool) -> Tensor:
    return x * drawn(x.shape, 1 - p) / torch.tensor(1 - p) if training else x


def draws_in_eval(x: Tensor, p: float, training: bool) -> Tensor:
    kept = drawn(x.shape, 1 - p)
    return x * kept * one_over_what_is_left(p) if training else x


def in_place(x: Tensor, p: float, training: bool) -> Tensor:
    if training:
        x[~drawn(x.shape, 1 - p)] = 0
    return x * one_over_what_is_left(p) if training else x
