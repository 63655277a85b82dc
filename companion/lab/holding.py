"""How much memory something takes while it runs."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def added_memory(do: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """The most bytes of tensors that `do()` held at once beyond what was held before it.

    By PyTorch's own bookkeeping; what other libraries take for themselves is not in it. On a CPU
    what was freed that had been there before counts as less.
    """
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        do()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes a line whenever it starts
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        do()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
