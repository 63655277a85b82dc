"""Whether a model has registered all the layers and parameters that it uses."""

# Exported from lessons/03_sequential_vs_modulelist.md: edit that, then run `make lessons`.

__all__ = ["unregistered_leaves", "unregistered_modules", "unregistered_parameters"]

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_REGISTERS = ("_parameters", "_buffers", "_modules")  # where nn.Module registers
_INTERNAL = frozenset(vars(nn.Module()))  # these, and its hooks
_ROWS = (list, tuple, deque, set, frozenset)
_PLAIN = (bool, bytes, complex, float, int, str, type, ModuleType, type(None))
_FIELDS = (GetSetDescriptorType, MemberDescriptorType)
_DEPTH, _LONGEST, _MOST = 30, 100_000, 1_000_000  # bounds of a search


def _stored(x: Any) -> dict[str, Any]:
    """An object's own attributes, read without running any of its code."""
    found: dict[str, Any] = {}
    for cls in reversed(type(x).__mro__):
        for name, member in vars(cls).items():
            if name == "__dict__" and type(member) in _FIELDS:
                found |= member.__get__(x)
            elif type(member) is MemberDescriptorType:  # a slot
                with suppress(AttributeError):  # that was never filled
                    found[name] = member.__get__(x)
    return found


def _registered(module: nn.Module) -> dict[str, Any]:
    """A module's parameters, buffers and children, by the names it has them under."""
    stored, found = _stored(module), {}
    for name in _REGISTERS:
        with suppress(Exception):  # super().__init__() was forgotten
            found |= dict(stored[name].items())
    return found


def _inside(x: Any) -> Iterator[tuple[str, Any]]:
    """(step, thing) for all that x holds."""
    kind = type(x)
    if kind is FunctionType:
        stored = {"__defaults__": x.__defaults__, "__kwdefaults__": x.__kwdefaults__}
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or ()):
            with suppress(ValueError):  # an empty cell
                yield f"<{name}>", cell.cell_contents
    else:
        stored = _stored(x)
    if issubclass(kind, dict):
        for n, (key, value) in enumerate(islice(dict.items(x), _LONGEST)):
            yield f"[{key!r}]" if type(key) in (str, int) else f"[key {n}]", value
    for rows in _ROWS:
        if issubclass(kind, rows):
            for n, value in enumerate(islice(rows.__iter__(x), _LONGEST)):
                yield f"[{n}]", value
    if _is_module(x):
        of_classes: dict[str, Any] = {}
        for cls in reversed(kind.__mro__[: kind.__mro__.index(nn.Module)]):
            of_classes |= vars(cls)
        stored = {n: value for n, value in stored.items() if n not in _INTERNAL}
        stored = of_classes | stored | _registered(x)
    for name, value in stored.items():
        yield f".{name}", value


def _is_module(x: Any) -> bool:
    """Asked of the type: isinstance would run a property called __class__."""
    return issubclass(type(x), nn.Module)


def _wants_training(x: Tensor) -> bool:
    """Whether a tensor is a Parameter, or a leaf that wants a gradient."""
    with suppress(Exception), torch._C.DisableTorchFunctionSubclass():
        return isinstance(x, nn.Parameter) or (x.requires_grad and x.is_leaf)
    return False


def _tree(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that a model has registered, itself first, by their names."""
    tree, seen, todo = {}, {id(model)}, deque([("", model)])
    while todo:
        path, module = todo.popleft()
        tree[path] = module
        for name, child in _registered(module).items():
            if _is_module(child) and id(child) not in seen:
                seen.add(id(child))
                todo.append((f"{path}.{name}".lstrip("."), child))
    return tree


def _hidden(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """(path, thing) for each module and trainable tensor that is not registered."""
    tree, looked = _tree(model), 0
    known = {id(x) for module in tree.values() for x in _registered(module).values()}
    seen = {id(module): module for module in tree.values()}  # kept: an id is reused
    todo = deque((path, 0, module) for path, module in tree.items())
    while todo:
        path, depth, holder = todo.popleft()
        layers = []  # gone through before anything else, so that none is found by half
        for step, x in _safely(holder):
            looked += 1
            if looked > _MOST:
                return
            if id(x) in seen or issubclass(type(x), _PLAIN):
                continue
            seen[id(x)], here = x, f"{path}{step}".lstrip(".")
            if issubclass(type(x), Tensor):
                if id(x) not in known and _wants_training(x):
                    yield here, x
            elif _is_module(x):
                yield here, x
                layers.append((here, depth, x))
            elif depth < _DEPTH:
                todo.append((here, depth + 1, x))
        todo.extendleft(reversed(layers))


def _safely(x: Any) -> Iterator[tuple[str, Any]]:
    """What a thing holds, up to where looking fails: it may be broken, or hostile."""
    if not issubclass(type(x), torch.jit.ScriptModule):  # what it has is not in Python
        with suppress(Exception):
            yield from _inside(x)


def unregistered_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that hide in a model's attributes, by the path that leads to each.

    {"blocks[0].weight": parameter}, the nearest first, each once. Looks into lists,
    tuples, sets, dicts, objects' attributes, class attributes, bound methods,
    functools.partial and what functions close over. A plain leaf tensor that wants a
    gradient is reported too; what is registered under some name is not. Reads what is
    stored, and runs no code of the model's.

    Not seen: globals, what forward makes anew, hooks, keys of dicts, iterators, weak
    references, a tensor computed from a parameter, TorchScript; more than 30 steps
    deep, 100,000 items in one row or 1,000,000 things in all. `unregistered_leaves`
    sees most of them.
    """
    return {path: x for path, x in _hidden(model) if not _is_module(x)}


def unregistered_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that hide in a model's attributes, by path; the outermost ones.

    Those without parameters too: `model.eval()` does not reach such a Dropout. Looks
    where `unregistered_parameters` looks.
    """
    found = {path: x for path, x in _hidden(model) if _is_module(x)}
    inner = {id(m) for x in found.values() for m in _tree(x).values() if m is not x}
    return {path: x for path, x in found.items() if id(x) not in inner}


def unregistered_leaves(model: nn.Module, loss: Float[Tensor, "..."]) -> list[Tensor]:
    """Tensors that get a gradient from this loss, and are none of `model.parameters()`.

    Wherever they hide: in globals, or made anew in forward. An input that wants a
    gradient is one of them. Not seen: a frozen parameter, which gets none, and
    what is used under torch.utils.checkpoint with use_reentrant=True.
    ValueError for a loss that carries no gradient.
    """
    if not loss.requires_grad:
        raise ValueError("the loss carries no gradient: nothing can be trained by it")
    known = {id(p) for p in model.parameters()}
    leaves, seen, todo = [], set(), [loss.grad_fn]
    while todo:
        step = todo.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if type(step).__name__ == "AccumulateGrad":  # it fills a leaf's .grad
            leaves.append(step.variable)
        todo += [before for before, _ in step.next_functions]
    if loss.is_leaf:
        leaves.append(loss)
    return [x for x in leaves if id(x) not in known]
