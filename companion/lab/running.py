"""Run somebody's function on copies of its arguments: in bounded time, whatever it does."""

import contextlib
import ctypes
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
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
    operations: set[str] = field(default_factory=set)
    timed_out: bool = False

    @classmethod
    def of(cls, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> "Run":
        """Call `answer`; an error it raises, SystemExit too, is kept and not raised."""
        run = cls(probe, tuple(_copy(arg) for arg in probe))

        def call() -> None:
            try:
                with _Recorder(run.operations):
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


class _Recorder(TorchDispatchMode):
    """Writes down the names of the operations that run under it, as "aten::mm" or with overload."""

    def __init__(self, seen: set[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.name())
        return func(*args, **(kwargs or {}))


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
