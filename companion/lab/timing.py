"""What something takes: its time on the clock, and what the processor gave to it."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def seconds(do: Callable[[], Any], *, repeats: int = 15) -> float:
    """The median time of `do()` in seconds, after two calls that do not count."""
    times = []
    for _ in range(repeats + 2):
        start = perf_counter()
        do()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return median(times[2:])


def spent(do: Callable[[], Any]) -> dict[str, float]:
    """What `do()` took: seconds of the clock, of the processor, and page faults.

    `user` seconds were spent in the program, `kernel` seconds in the operating system on its
    behalf, summed over its threads. `faults` counts pages that the kernel had to make or map; 0
    where it does not say.
    """
    before, start = _spent_so_far(), perf_counter()
    do()
    clock = perf_counter() - start
    user, kernel, faults = (b - a for a, b in zip(before, _spent_so_far()))
    return {"clock": clock, "user": user, "kernel": kernel, "faults": faults}


def afresh(do: Callable[[], T]) -> T:
    """What `do()` returns in a child of this process: what it changes there ends with it.

    Needs fork, so not on Windows, nor once a GPU was used. RuntimeError where `do` fails.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(do, theirs))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError("it failed in the child process; its last words are above") from None
    finally:
        child.join()


def _send(do: Callable[[], Any], end: Connection) -> None:
    end.send(do())


def _spent_so_far() -> tuple[float, float, int]:
    try:
        import resource
    except ImportError:  # on Windows
        user, kernel, *_ = os.times()
        return user, kernel, 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime, used.ru_minflt
