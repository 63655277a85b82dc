"""Run somebody's function on copies of its arguments: in bounded time, whatever it does."""

import contextlib
import ctypes
import io
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from companion.lab.comparing import first_difference


@dataclass
class Run:
    """One call of an answer on copies of a probe: what came back, and what else it did."""

    probe: tuple[Any, ...]
    args: tuple[Any, ...]
    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    operations: Counter[str] = field(default_factory=Counter)
    timed_out: bool = False

    @classmethod
    def of(cls, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> "Run":
        """Call `answer`; an error it raises, SystemExit too, is kept and not raised."""
        run = cls(probe, tuple(_copy(arg) for arg in probe))

        def call() -> None:
            try:
                with _Names(run.operations), _Recorder(run.operations, run.args):
                    run.value = answer(*run.args)
            except BaseException as error:
                run.error = error

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            run.timed_out = not _ends_within(seconds, call)
        run.printed = out.getvalue()
        return run

    def changed(self) -> int | None:
        """The index of the first argument that the answer changed in place."""
        pairs = enumerate(zip(self.args, self.probe, strict=True))
        return next((i for i, (now, was) in pairs if first_difference(now, was, 0.0)), None)


class _Names(TorchFunctionMode):
    """Writes down which of torch's functions are called, as "dropout"."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[getattr(func, "__name__", "")] += 1
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Counts what is done, as "aten::mm", and to which argument, as "aten::mm on argument 2"."""

    def __init__(self, seen: Counter[str], args: tuple[Any, ...]) -> None:
        super().__init__()
        self.seen = seen
        self.places = {_memory(x): n for n, x in enumerate(args, 1) if isinstance(x, Tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.name()] += 1
        first = args[0] if args else None
        if isinstance(first, Tensor) and (place := self.places.get(_memory(first))):
            self.seen[f"{func.name()} on argument {place}"] += 1
        return func(*args, **(kwargs or {}))


def _memory(tensor: Tensor) -> int | None:
    """Where a tensor's numbers lie, the same for all its views."""
    strided = tensor.layout is torch.strided and tensor.device.type != "meta"
    return tensor.untyped_storage().data_ptr() if strided else None


class _OutOfTime(BaseException):
    """Raised inside an answer that does not end; no `except Exception` holds it back."""


def _ends_within(seconds: float, call: Callable[[], None]) -> bool:
    """Whether `call` ended in time. If not, its thread is told to stop, and left if it does not."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
        return not thread.is_alive()
    finally:
        for _ in range(20):
            if not thread.is_alive():
                break
            stop = ctypes.py_object(_OutOfTime)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), stop)
            thread.join(0.05)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value
