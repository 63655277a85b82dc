"""What a model is before it is examined, and the random states: kept, and put back."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["Kept", "chance_kept", "sow"]

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OWN = {"_parameters", "_buffers", "_modules"}
_SKIPPED = set(vars(nn.Module())) - _OWN  # hooks, and the mode, which is kept apart


class Kept:
    """What a model is, to be put back: weights, buffers, attributes, gradients, modes.

    Of attributes, tensors are kept, and what lists, dicts and sets hold; what other
    objects hold is not.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modes = {module: module.training for module in model.modules()}
        self.attributes = {
            module: {k: v for k, v in vars(module).items() if k not in _SKIPPED}
            for module in self.modes
        }
        values = [v for kept in self.attributes.values() for v in kept.values()]
        self.holders = [(v, v.copy()) for v in values if isinstance(v, dict | list | set)]
        inner = [x for v, _ in self.holders for x in (v.values() if isinstance(v, dict) else v)]
        tensors = {id(x): x for x in [*values, *inner] if isinstance(x, Tensor)}
        self.tensors = [(x, x.detach().clone(), _version(x)) for x in tensors.values()]
        self.gradients = [(p, p.grad) for p in model.parameters()]

    def put_back(self, *, thoroughly: bool = False) -> None:
        """Put it back. Tensors written through `.data` are seen only `thoroughly`."""
        for module, mode in self.modes.items():
            module.training = mode
            kept, now = self.attributes[module], vars(module)
            for name in [k for k in now if k not in kept and k not in _SKIPPED]:
                del now[name]
            now.update(kept)
        for holder, copy in self.holders:
            if not _same(holder, copy):
                holder.clear()
                holder.extend(copy) if isinstance(holder, list) else holder.update(copy)
        with torch.no_grad():
            for n, (x, was, version) in enumerate(self.tensors):
                if _version(x) != version or (thoroughly and not _equal(x, was)):
                    x.detach().copy_(was)
                    self.tensors[n] = (x, was, _version(x))
        for p, gradient in self.gradients:
            if p.grad is not gradient:
                p.grad = gradient


def _version(x: Tensor) -> int:
    """How often a tensor was written to; torch does not count for inference tensors."""
    return -1 if x.is_inference() else x._version


def _same(a: Any, b: Any) -> bool:
    """Whether two lists, dicts or sets hold the very same things."""
    if isinstance(a, dict):
        return [*a] == [*b] and all(x is y for x, y in zip(a.values(), b.values()))
    return len(a) == len(b) and all(x is y for x, y in zip(a, b))


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same numbers; NaN is one."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def sow(seed: int, device: torch.device) -> None:
    """Seed all chance that a model can use, on its device and no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def chance_kept(device: torch.device) -> Iterator[None]:
    """The random states of torch, numpy and Python are put back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
