"""Exercises whose right answers are random: an answer is called many times, and then read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise
from companion.lab.running import Run

FEW = 3  # calls that show whether there is any chance in an answer


@dataclass(frozen=True)
class ByChance(Exercise):
    """An exercise whose answers draw random numbers, so that no two values are the same.

    On each probe an answer is called `draws` times. `reading(runs, drew)` says in words, the same
    every time, what those calls have in common; `drew` is whether torch's own generator was used.
    Readings are compared in place of values. They should be sure: two readings of a right answer
    may differ once in a million, not more. Those of the mistakes are made once.
    """

    reading: Callable[[Sequence[Run], bool], Any] = lambda runs, drew: [run.value for run in runs]
    draws: int = 16
    _kept: dict[tuple[int, int], Run] = field(default_factory=dict, repr=False, compare=False)

    def _run(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        before, runs, drew = torch.get_rng_state(), [], False
        for n in range(self.draws):
            run = Run.of(answer, probe, seconds)
            if run.error or run.timed_out or run.value is None or run.value is ...:
                return run
            runs.append(run)
            drew = not torch.equal(before, torch.get_rng_state())
            if n + 1 >= FEW and not drew and not _differ(runs):
                break
        runs[0].value = self.reading(runs, drew)
        return runs[0]

    def _ours(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        key = id(answer), id(probe)
        if key not in self._kept:
            self._kept[key] = self._run(answer, probe, seconds)
        return self._kept[key]


def _differ(runs: Sequence[Run]) -> bool:
    try:
        return any(first_difference(run.value, runs[0].value, 0.0) for run in runs)
    except TypeError:  # values that cannot be compared
        return True
