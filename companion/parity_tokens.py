"""Two tensors side by side: in one shape, without padding, and how far apart."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["ROUNDING", "Tokens", "apart", "far", "same", "usual"]

from math import inf
from typing import Any

import torch
from torch import Tensor

from companion.probing import change


class Tokens:
    """Which places of a batch (B, T) are tokens; what padding holds is not compared."""

    def __init__(self, seen: Tensor | None) -> None:
        self.seen = seen  # (B, T), or None where the batch has no ids

    @classmethod
    def of(cls, batch: Any) -> "Tokens":
        """By the first integers (B, T), or a mask of zeros and ones, if given."""
        named = batch if isinstance(batch, dict) else {"ids": batch}
        ids = [x for x in named.values() if isinstance(x, Tensor) and x.dim() == 2]
        ids = [x for x in ids if not x.is_floating_point()]
        if not ids:
            return cls(None)
        for name, x in named.items():
            if "mask" in name and any(x is one for one in ids) and not (x.long() & ~1).any():
                return cls(x.bool())
        return cls(torch.ones_like(ids[0], dtype=torch.bool))

    def form(self, x: Tensor) -> tuple[int | str, ...]:
        """A shape as any model has it: without leading ones, tokens as one axis."""
        if self.seen is not None and self._whole(x):
            return ("tokens", *x.shape[2:])
        shape = _bare(x).shape
        if self.seen is not None and len(shape) > 1 and shape[0] == self.seen.sum():
            return (
                "tokens",
                *shape[1:],
            )  # packed: the tokens end to end, without padding
        return tuple(shape)

    def side_by_side(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor] | None:
        """Both in one shape, with 0 at padding; None where they do not go together."""
        a, b = (self._unpacked(x.to(a.device), other) for x, other in ((a, b), (b, a)))
        if a.shape != b.shape:
            a, b = _bare(a), _bare(b)
            longer = max(a.shape, b.shape, key=len)
            if longer[len(longer) - a.dim() :] != a.shape:
                return None
            if longer[len(longer) - b.dim() :] != b.shape:
                return None
            a, b = a.expand(longer), b.expand(longer)
        if a.is_floating_point() != b.is_floating_point():
            return None
        if self._whole(a):
            blank = ~self.seen.to(a.device).view(*a.shape[:2], *[1] * (a.dim() - 2))
            a, b = a.masked_fill(blank, 0), b.masked_fill(blank, 0)
        return a, b

    def axes(self, x: Tensor) -> list[str]:
        """What the axes of a tensor are."""
        if self.seen is not None and x.shape[:2] == self.seen.shape and x.dim() > 1:
            names = ["batch", "position", "channel"]
        elif self.seen is None or x.dim() != 2 or len(x) == len(self.seen):
            names = ["batch", "channel"]
        else:
            names = ["position", "channel"]
        return names[: x.dim()] + [f"axis {n}" for n in range(len(names), x.dim())]

    def real(self, x: Tensor) -> Tensor:
        """The numbers of a tensor that do not belong to padding."""
        return x[self.seen.to(x.device)] if self._whole(x) else x

    def _whole(self, x: Tensor) -> bool:
        """Whether x holds something for each place: ids, or (B, T, ...)."""
        if self.seen is None or x.shape[:2] != self.seen.shape:
            return False
        return x.dim() > 2 or not x.is_floating_point()

    def _unpacked(self, x: Tensor, other: Tensor) -> Tensor:
        if not self._whole(other):
            return x
        if _bare(x).shape != (self.seen.sum(), *other.shape[2:]):
            return x
        blank = x.new_zeros(*self.seen.shape, *other.shape[2:])
        return blank.index_put((self.seen.to(x.device),), _bare(x))


def _bare(x: Tensor) -> Tensor:
    while x.dim() > 1 and len(x) == 1:
        x = x[0]
    return x


ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2}


def far(a: Tensor, b: Tensor, tolerance: float | None = None) -> float:
    """How far two tensors of one shape lie apart at most; over 1, they differ.

    In tolerances, each a share of |a| plus what numbers in `a` are (`usual`): by
    default what rounding may come to, 1e-9 in float64, 1e-5 in float32, 1e-2 in float16
    and 5e-2 in bfloat16. Integers differ or do not.
    """
    if a.numel() == 0:
        return 0.0
    if not (a.is_floating_point() and b.is_floating_point()):
        return inf if (a != b).any() else 0.0
    allowed = _tolerance(a, b, tolerance) * (usual(a) + a.double().abs()).nan_to_num(
        nan=1, posinf=1
    )
    return (apart(a, b) / allowed.clamp(min=1e-30)).max().item()


def usual(x: Tensor) -> float:
    """What numbers usually are: root mean square of those that are finite and not 0."""
    x = x.double()
    return x[x.isfinite() & (x != 0)].square().mean().nan_to_num().sqrt().item()


def apart(a: Tensor, b: Tensor) -> Tensor:
    """How far two tensors lie apart at each number; NaN is far from all but NaN."""
    a, b = a.double(), b.double()
    return change(a, b).masked_fill(a.isnan() & b.isnan(), 0).nan_to_num(nan=inf)


def same(a: Tensor, b: Tensor, tolerance: float | None = None) -> bool:
    """Whether two tensors have one shape, and numbers equal to rounding."""
    if a.shape != b.shape or _plainly_apart(a, b, tolerance):
        return False
    return far(a, b, tolerance) <= 1


def _tolerance(a: Tensor, b: Tensor, given: float | None) -> float:
    coarser = max(a.dtype, b.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return ROUNDING.get(coarser, 5e-2) if given is None else given


def _plainly_apart(a: Tensor, b: Tensor, tolerance: float | None) -> bool:
    """Whether the first row of a large matrix settles it: a number is too far off.

    Looking at all of a table of words, again and again, would take a minute.
    """
    if a.dim() < 2 or a.numel() < 100_000 or not a.is_floating_point():
        return False
    largest = a.abs().max().double()
    if not (largest.isfinite() and b.is_floating_point()):
        return False
    gaps = (a[0].double() - b[0].double()).abs()
    return bool((gaps > 2 * _tolerance(a, b, tolerance) * largest).any())
