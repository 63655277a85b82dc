"""Small tensors, written out with their names, shapes and indices."""

import numpy as np
from torch import Tensor


def show(axes: str, **tensors: Tensor) -> None:
    """Print tensors with a row for each index but the last: `show("B T V", logits=logits)`.

    `axes` names the axes, one word each; ValueError where their number is not the tensor's.
    """
    names = axes.split()
    for title, tensor in tensors.items():
        if tensor.dim() != len(names):
            raise ValueError(f"{title} has {tensor.dim()} axes, and {axes!r} names {len(names)}")
        sizes = ", ".join(f"{name}={size}" for name, size in zip(names, tensor.shape))
        print(f"{title}  ({sizes})  {str(tensor.dtype).removeprefix('torch.')}")
        for index in np.ndindex(tensor.shape[:-1]):
            at = " ".join(f"{name.lower()}={i}" for name, i in zip(names, index))
            print(f"  {at}  {' '.join(map(_number, tensor[index].tolist()))}")


def _number(value: float) -> str:
    return f"{value:5.2f}" if isinstance(value, float) else f"{value:3}"
