"""What forward does on its way, seen as it happens: scores, and casts."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["CASTS", "PRODUCTS", "Watch", "casts_nothing", "divides_scores"]

from collections.abc import Callable, Iterator
from math import isclose, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding, listed

PRODUCTS = ("matmul", "__matmul__", "bmm")
CASTS = ("half", "bfloat16", "float", "double", "to", "type", "type_as")


class Watch(TorchFunctionMode):
    """Sees products of queries and keys, factors, softmaxes, and casts."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[Tensor, int]] = []  # (..., T, T), and the head size
        self.factors: list[float] = []
        self.casts: set[torch.dtype] = set()  # what tensors of floats were cast to
        self.weighed: list[tuple[int, float]] = []  # head size, factor on the product

    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if func is F.scaled_dot_product_attention:
            size, scale = args[0].shape[-1], (kwargs or {}).get("scale")
            self.weighed.append((size, 1 / sqrt(size) if scale is None else scale))
        elif name in PRODUCTS and len(args) > 1 and _is_square(result):
            self.products.append((result.detach().clone(), args[0].shape[-1]))
        elif name in CASTS and isinstance(result, Tensor) and args[0].is_floating_point():
            self.casts.add(result.dtype)
        elif "mul" in name or "div" in name:
            self.factors += [float(x) for x in args if _is_number(x)]
        elif name == "softmax" and self.products and _is_square(args[0]):
            self._softmax(args[0])
        return result

    def _softmax(self, scores: Tensor) -> None:
        """The factor between the last product and these scores, where there is one."""
        product, size = self.products[-1]
        if product.shape != scores.shape:
            return
        seen = (scores > -1e4) & (product.abs() > 1e-2 * product.abs().max())
        ratios = (scores / product)[seen].double()
        if len(ratios) > 1 and ratios.std() < 1e-3 * ratios.mean().abs():
            self.weighed.append((size, ratios.mean().item()))


def _is_square(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 2 and x.shape[-1] == x.shape[-2]


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) or (isinstance(x, Tensor) and x.dim() == 0)


@torch.no_grad()
def divides_scores(patient: Patient) -> Iterator[Finding]:
    """No softmax is taken of q @ k.mT as it is.

    Looked for in attention that is written out with matmul and softmax, and in the
    `scale` of torch's own. A division of q or k beforehand counts as well.
    """
    with Watch() as watch:
        patient(patient.text())
    for size, factor in watch.weighed:
        roots = [size**power for power in (0.5, -0.5, 0.25, -0.25)]
        before = any(isclose(x, y, rel_tol=1e-3) for x in watch.factors for y in roots)
        if size > 1 and isclose(factor, 1, rel_tol=1e-3) and not before:
            said = f"scores that are 1.00 times q @ k.mT, of heads of size {size}"
            yield finding("scores-unscaled", said, f"{1 / sqrt(size):.3g} times")
            return


@torch.no_grad()
def casts_nothing(patient: Patient) -> Iterator[Finding]:
    """Forward casts numbers to no dtype but those of the weights, or float32."""
    with Watch() as watch:
        patient.run(patient.text())
    patient.kept.put_back()
    usual = {p.dtype for p in patient.model.parameters()} | {torch.float32}
    strange = {x for x in watch.casts if x.is_floating_point} - usual
    if strange and not torch.is_autocast_enabled(patient.device.type):
        names = listed(sorted(str(x).removeprefix("torch.") for x in strange))
        said = f"forward casts to {names}"
        yield finding("dtypes-mixed", said, "the weights' own, or float32")
