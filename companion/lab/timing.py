"""How long something takes: the median of several runs."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch


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
