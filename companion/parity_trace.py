"""What each module of a model was given and gave back, in the order in which they
ended."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Call", "Note", "copied", "tensors_in", "trace", "untouched"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Note(NamedTuple):
    """A tensor on its way through a model: which one it is, and its numbers then."""

    key: tuple  # the same memory, unchanged since: the same tensor
    numbers: Tensor


@dataclass(eq=False, repr=False)
class Call:
    """One run of one module."""

    name: str
    module: nn.Module
    parent: "Call | None"
    args: Any  # (args, kwargs), their tensors copied
    inputs: list[Note]
    outputs: list[Note] = field(default_factory=list)
    children: list["Call"] = field(default_factory=list)

    def above(self) -> Iterator["Call"]:
        """The runs that this one was part of, the nearest first."""
        call = self.parent
        while call is not None:
            yield call
            call = call.parent


@torch.inference_mode(False)
@torch.no_grad()
def trace(model: nn.Module, batch: Any, seed: int) -> list[Call]:
    """All runs of a model's modules on a batch, in the order they ended; the model's is
    last.

    In the mode the model is in. What it returns and is given is copied, so that a later
    `x += ...` changes no record. A batch that is a dict is given by name.
    """
    calls: list[Call] = []
    running: list[Call] = []
    noted: dict[tuple, tuple[Tensor, Tensor]] = {}  # keeps each alive: no memory is used twice

    def note(x: Tensor) -> Note:
        version = 0 if x.is_inference() else x._version
        key = (x.data_ptr(), x.shape, x.stride(), x.dtype, version)
        if key not in noted:
            noted[key] = (x, x.detach().clone())
        return Note(key, noted[key][1])

    def before(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = [note(x) for x in tensors_in((args, kwargs))]
        given = copied((args, kwargs), lambda x: note(x).numbers)
        parent = running[-1] if running else None
        running.append(Call(name, module, parent, given, inputs))
        if parent:
            parent.children.append(running[-1])

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        while (call := running.pop()).module is not module:
            pass  # one that raised, and whose caller went on
        call.outputs = [note(x) for x in tensors_in(output)]
        calls.append(call)

    handles = []
    try:
        for name, module in model.named_modules():
            hook = partial(before, name)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        torch.manual_seed(seed)
        batch = copied(batch, torch.clone)
        model(**batch) if isinstance(batch, dict) else model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Buffers and the random state are afterwards what they were before."""
    parts = {part for model in models for part in model.modules()}
    kept = [(part, dict(part._buffers)) for part in parts]
    copies = {id(x): x.clone() for _, buffers in kept for x in buffers.values() if x is not None}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            for part, buffers in kept:
                part._buffers.update(buffers)
                for x in buffers.values():
                    if x is not None and not torch.equal(x, copies[id(x)]):
                        x.copy_(copies[id(x)])


def tensors_in(x: Any) -> Iterator[Tensor]:
    """The tensors in arguments or a result, however they are wrapped."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, dict | tuple | list):
        for one in x.values() if isinstance(x, dict) else x:
            yield from tensors_in(one)
    elif is_dataclass(x) and not isinstance(x, type):
        yield from tensors_in(vars(x))


def copied(x: Any, copy: Callable[[Tensor], Tensor]) -> Any:
    """Dicts, tuples and lists anew, each tensor in them replaced by what `copy` makes
    of it."""
    if isinstance(x, Tensor):
        return copy(x)
    if type(x) is dict:
        return {name: copied(one, copy) for name, one in x.items()}
    return type(x)(copied(one, copy) for one in x) if type(x) in (tuple, list) else x
