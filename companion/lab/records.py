"""Recorded runs: what an experiment of several seeds gave, with all that is needed to repeat it."""

import hashlib
import inspect
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from companion.lab.progress import progress

COURSE = Path(__file__).parents[2]
RUNS = COURSE / "lessons" / "runs"
RESULTS = COURSE / "benchmarks" / "results"


@dataclass(frozen=True)
class Record:
    """The results of one experiment by seed, and how they came about."""

    experiment: str
    code: str
    settings: dict[str, Any]
    results: dict[int, Any]
    command: str
    date: str
    machine: str
    versions: dict[str, str]

    def __str__(self) -> str:
        seeds = ", ".join(map(str, self.results))
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"recorded {self.date}: {self.experiment}, seeds {seeds}\n"
            f"on {self.machine}; {versions}\nagain: {self.command}"
        )


def recorded(
    experiment: Callable[..., Any], *, lesson: str, seeds: tuple[int, ...], **settings: Any
) -> Record:
    """The record of `experiment(seed=..., **settings)` for each seed, read from lessons/runs.

    With COMPANION_RECORD set, as `tools/lessons.py record` does, the experiment is first run, seed
    by seed, and its record is written. The experiment returns what JSON can hold. A record made by
    another version of that function, other settings or other seeds is refused with ValueError, for
    its numbers are no longer this experiment's; FileNotFoundError where there is none.
    """
    path = RUNS / f"{lesson}_{experiment.__name__}.json"
    code = hashlib.sha256(inspect.getsource(experiment).encode()).hexdigest()[:16]
    command = f"python tools/lessons.py record {lesson}"
    if os.environ.get("COMPANION_RECORD"):
        results = {s: experiment(seed=s, **settings) for s in progress(seeds, "recording")}
        record = Record(experiment.__name__, code, settings, results, command, *_here_and_now())
        _write(path, record)
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in lessons/runs; to make it: {command}")
    fields = json.loads(path.read_text())
    fields["results"] = {int(seed): result for seed, result in fields["results"].items()}
    record = Record(**fields)
    asked = {"code": code, "settings": json.loads(json.dumps(settings)), "seeds": list(seeds)}
    found = {"code": record.code, "settings": record.settings, "seeds": list(record.results)}
    for what, value in asked.items():
        if found[what] != value:
            raise ValueError(
                f"{path.name} was recorded with {what} {found[what]}, and the lesson asks for "
                f"{value}; to record it again: {command}"
            )
    return record


def benchmark(name: str) -> dict[str, Any]:
    """The newest record of benchmarks/NAME.py. FileNotFoundError where none was kept."""
    kept = sorted(RESULTS.glob(f"{name}_*.json"))
    if not kept:
        raise FileNotFoundError(f"nothing kept yet; to make it: python benchmarks/{name}.py")
    return json.loads(kept[-1].read_text())


def _here_and_now() -> tuple[str, str, dict[str, str]]:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    versions = {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]}
    return date.today().isoformat(), machine, versions


def _write(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(vars(record), indent=1, ensure_ascii=False) + "\n")
    part.replace(path)
