"""Exercises whose right answers are random: an answer is called many times, and then read."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise
from companion.lab.running import Run

FEW = 3  # calls that show whether there is any chance in an answer


@dataclass(frozen=True)
class ByChance(Exercise):
    """An exercise whose answers draw random numbers, so that no two values are the same.

    On each probe an answer is called `draws` times. `reading(runs, drew)` says in words, fact by
    fact, the same every time, what those calls have in common; `drew` is whether a generator of
    torch, NumPy or Python was used. Readings are compared in place of values. They should be sure:
    two readings of a right answer may differ once in a million, not more. Those of the mistakes
    are made once.

    An answer that departs on the same probe as a mistake, and there in the same first fact, has
    that mistake, whatever else is wrong. Where none does, `in_words(fact, got, want)` says what is
    off, and `named(*probe)` on which input.
    """

    reading: Callable[[Sequence[Run], bool], Mapping[str, str]] = lambda runs, drew: {}
    in_words: Callable[[str, str, str], str] = "{}: {}, expected {}".format
    named: Callable[..., str] = lambda *probe: f"{len(probe)} arguments"
    draws: int = 16
    _kept: dict[tuple[int, int], Run] = field(default_factory=dict, repr=False, compare=False)

    def _run(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        before, runs, drew = _dice(), [], False
        for n in range(self.draws):
            run = Run.of(answer, probe, seconds)
            if run.error or run.timed_out or run.value is None or run.value is ...:
                return run
            runs.append(run)
            drew = _dice() != before
            if n + 1 >= FEW and not drew and not _differ(runs):
                break
        runs[0].value = self.reading(runs, drew)
        return runs[0]

    def _compared(self, runs: list[Run], wants: list[Run]) -> str:
        said = super()._compared(runs, wants)
        if not said.startswith("not yet"):
            return said
        at, fact, got = _first_wrong([run.value for run in runs], wants)
        for mistake in self.mistakes:
            its = [self._ours(mistake.answer, run.probe, self.seconds).value for run in runs]
            if _first_wrong(its, wants) == (at, fact, got):
                return f"{mistake.name}: {mistake.hint}"
        if not fact:
            return said
        what = self.in_words(fact, got, wants[at].value[fact])
        return f"not yet: on input {at + 1} ({self.named(*runs[at].probe)}) {what}"

    def _ours(self, answer: Callable[..., Any], probe: tuple[Any, ...], seconds: float) -> Run:
        key = id(answer), id(probe)
        if key not in self._kept:
            self._kept[key] = self._run(answer, probe, seconds)
        return self._kept[key]


def _dice() -> tuple[Any, ...]:
    """The state of every generator that an answer may draw from without making its own."""
    numpy = np.random.get_state()
    torchs = torch.get_rng_state().numpy().tobytes()
    return torchs, numpy[1].tobytes(), numpy[2:], random.getstate()


def _first_wrong(readings: Sequence[Any], wants: Sequence[Run]) -> tuple[int, str, str]:
    """Number of the first probe that departs, the first fact that does there, and what it says."""
    for at, (got, want) in enumerate(zip(readings, wants)):
        if not isinstance(got, Mapping):
            return at, "", ""  # it raised
        for fact, said in want.value.items():
            if got.get(fact) != said:
                return at, fact, str(got.get(fact))
    return len(wants), "", ""


def _differ(runs: Sequence[Run]) -> bool:
    try:
        return any(first_difference(run.value, runs[0].value, 0.0) for run in runs)
    except TypeError:  # values that cannot be compared
        return True
