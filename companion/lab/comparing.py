"""The first difference between what was returned and what was wanted, in words."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def first_difference(got: Any, want: Any, tolerance: float) -> str | None:
    """Say where `got` first departs from `want`: structure, shape, dtype, then index and values.

    A key of a dict that is more than one word says what was looked at, and stands as it is.
    """
    if isinstance(want, Tensor):
        return _tensor_difference(got, want, tolerance)
    if isinstance(want, bool | str | bytes | torch.dtype) or want is None:
        return None if got is want or got == want else f"expected {want!r}, got {got!r}"
    if isinstance(want, int | float):
        number = torch.as_tensor(want, dtype=torch.float64)
        if isinstance(got, Tensor | np.generic | np.ndarray) and math.prod(got.shape) == 1:
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, int | float):
            return f"expected a number, got {kind_of(got)}"
        if isinstance(want, int) and isinstance(got, int):  # an id, say: whole, and exact
            return None if got == want else f"expected {want}, got {got}"
        return _tensor_difference(
            torch.as_tensor(float(got), dtype=torch.float64), number, tolerance
        )
    if isinstance(want, dict):
        if not isinstance(got, dict) or got.keys() != want.keys():
            return f"expected a dict with keys {sorted(want)}, got {kind_of(got)}"
        pairs = {
            f"for {key}" if isinstance(key, str) and " " in key else f"in [{key!r}]": both
            for key, both in ((key, (got[key], want[key])) for key in want)
        }
    elif isinstance(want, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(want):
            return f"expected {len(want)} values, got {kind_of(got)}"
        pairs = {f"in [{i}]": pair for i, pair in enumerate(zip(got, want, strict=True))}
    else:
        raise TypeError(f"cannot compare {kind_of(want)}")
    found = ((at, first_difference(*pair, tolerance)) for at, pair in pairs.items())
    return next((f"{at}, {difference}" for at, difference in found if difference), None)


def _tensor_difference(got: Any, want: Tensor, tolerance: float) -> str | None:
    got = _as_tensor(got, want)
    if not isinstance(got, Tensor):
        return f"expected {kind_of(want)}, got {kind_of(got)}"
    if got.shape != want.shape:
        return f"expected shape {tuple(want.shape)}, got {tuple(got.shape)}"
    if got.dtype != want.dtype:
        return f"expected {want.dtype}, got {got.dtype}"
    got, want = (x.detach().cpu().to_dense() for x in (got, want))
    exact = not (want.dtype.is_floating_point or want.dtype.is_complex)
    limit = 0.0 if exact else tolerance
    same = torch.isclose(got, want, rtol=limit, atol=limit, equal_nan=True)
    if same.all():
        return None
    at = tuple(int(i) for i in (~same).nonzero()[0])
    where = f"at {at} " if at else ""
    if exact:
        return f"{where}expected {want[at].item()}, got {got[at].item()}"
    return f"{where}expected {_written(want[at].item())}, got {_written(got[at].item())}"


def _written(number: complex) -> str:
    return f"{number:.4f}" if abs(number) < 1e6 else f"{number:.4g}"


def _as_tensor(got: Any, want: Tensor) -> Any:
    """NumPy arrays, numbers and lists as a tensor of the wanted kind; anything else as it is."""
    if isinstance(got, Tensor) or not isinstance(got, np.ndarray | np.generic | int | float | list):
        return got
    try:
        made = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        return got
    kinds = (made.dtype.is_floating_point, want.dtype.is_floating_point)
    return made.to(want.dtype) if kinds[0] == kinds[1] else made


def kind_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
