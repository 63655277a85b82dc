"""What a model holds, however it holds it: found by looking, without running any of its code.

Written by hand: `companion/registration.py`, which lesson 03 exports, asks it. It is longer than
the question because it is meant for anybody's model, where a list can hold itself, an attribute
can be anything, and a property must not run.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["held", "registered_ids"]

_REGISTERS = ("_parameters", "_buffers", "_modules")  # where nn.Module registers
_INTERNAL = frozenset(vars(nn.Module()))  # these, and its hooks
_ROWS = (list, tuple, deque, set, frozenset)
_PLAIN = (bool, bytes, complex, float, int, str, type, ModuleType, type(None))
_FIELDS = (GetSetDescriptorType, MemberDescriptorType)
_DEPTH, _LONGEST, _MOST = 30, 100_000, 1_000_000  # bounds of a search


def registered_ids(model: nn.Module) -> set[int]:
    """The ids of a model, of the modules registered in it, and of all their tensors."""
    tree = _tree(model).values()
    return {id(x) for module in tree for x in (module, *_registered(module).values())}


def held(model: nn.Module) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """(path, thing) for each module and trainable tensor that a model holds, itself first.

    Each once, those that are registered and those that are not, the nearest first. Looks into
    lists, tuples, sets, dicts, objects' attributes, class attributes, bound methods,
    functools.partial and what functions close over; at most 30 steps deep, 100,000 items in one row
    and 1,000,000 things in all. A trainable tensor is a Parameter, or a leaf that wants a gradient.
    """
    tree, looked = _tree(model), 0
    yield from tree.items()
    seen: dict[int, Any] = {id(x): x for x in tree.values()}  # kept, since an id is used again
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
                if _is_trainable(x):
                    yield here, x
            elif _is_module(x):
                yield here, x
                layers.append((here, depth, x))
            elif depth < _DEPTH:
                todo.append((here, depth + 1, x))
        todo.extendleft(reversed(layers))


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


def _registered(module: nn.Module) -> dict[str, Any]:
    """A module's parameters, buffers and children, by the names it has them under."""
    stored, found = _stored(module), {}
    for name in _REGISTERS:
        with suppress(Exception):  # super().__init__() was forgotten
            found |= dict(stored[name].items())
    return found


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


def _safely(x: Any) -> Iterator[tuple[str, Any]]:
    """What a thing holds, up to where looking fails: it may be broken, or hostile."""
    if not issubclass(type(x), torch.jit.ScriptModule):  # what it has is not in Python
        with suppress(Exception):
            yield from _inside(x)


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


def _is_trainable(x: Tensor) -> bool:
    """Whether a tensor is a Parameter, or a leaf that wants a gradient."""
    with suppress(Exception), torch._C.DisableTorchFunctionSubclass():
        return isinstance(x, nn.Parameter) or (x.requires_grad and x.is_leaf)
    return False
