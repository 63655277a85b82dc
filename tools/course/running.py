"""Notebooks executed by this very Python, cleaned, and stored."""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbstripout import strip_output
from traitlets import default

from .form import (
    KERNELSPEC,
    CourseError,
    Lesson,
    cells,
    code_digest,
    read_notebook,
    record,
    write_notebook,
)

CELL_TIMEOUT = 600  # seconds
SCALES = ("ci", "laptop", "gpu")
STORED_SCALE = "laptop"  # the outputs that readers see come from a run at this scale
WIDGET = "application/vnd.jupyter.widget-view+json"
_EXTRA_KEYS = ["cell.metadata.execution", "metadata.widgets", "metadata.language_info.version"]
_BAR = re.compile(r"\d+%\|.*\|\s|\d+it \[\d+:\d+")  # a line of tqdm's


# --- run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """How long a lesson took: in all, and each cell, by its place, with its first line."""

    seconds: float
    cells: list[tuple[float, int, str]]

    def __str__(self) -> str:
        slowest = sorted(self.cells, reverse=True)[:3]
        lines = [f"      {took:5.1f} s  cell {place}: {first}" for took, place, first in slowest]
        return "\n".join([f"{self.seconds:.1f} s", *lines])


def is_stale(lesson: Lesson) -> bool:
    """Whether the stored outputs are of other code than stands there, missing, or not clean."""
    notebook = read_notebook(lesson)
    return (
        record(notebook).get("ran") != code_digest(notebook)
        or any(not_run(cell) for cell in notebook.cells)
        or clean(deepcopy(notebook)).cells != notebook.cells
    )


def not_run(cell: NotebookNode) -> bool:
    """Whether a code cell has something to run and no sign that it was."""
    return cell.cell_type == "code" and bool(cell.source.strip()) and cell.execution_count is None


def run(lesson: Lesson, scale: str = STORED_SCALE, *, store: bool | None = None) -> Timing:
    """Run a lesson's notebook from the top; store its outputs, cleaned.

    store: whether to write the notebook; left out, only a run at the stored scale is written.
    A cell that fails raises CourseError, with its traceback, and the notebook stays as it was.
    """
    notebook = read_notebook(lesson)
    timing = execute(lesson, notebook, {"COMPANION_SCALE": scale})
    if scale == STORED_SCALE if store is None else store:
        if cells(read_notebook(lesson)) != cells(notebook):
            raise CourseError(f"{lesson.stem} was edited while it ran; run it again")
        clean(notebook)
        record(notebook)["ran"] = code_digest(notebook)
        write_notebook(lesson, notebook)
    return timing


def record_runs(lesson: Lesson) -> Timing:
    """Run a lesson so that its recorded experiments run in full and are written to lessons/runs."""
    environment = {"COMPANION_SCALE": STORED_SCALE, "COMPANION_RECORD": "1"}
    return execute(lesson, read_notebook(lesson), environment, timeout=None)


def execute(
    lesson: Lesson,
    notebook: NotebookNode,
    environment: dict[str, str],
    timeout: int | None = CELL_TIMEOUT,
) -> Timing:
    """Execute `notebook` in place, in notebooks/, with the course at `lesson.root` importable."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    progress = _Progress(lesson.stem, notebook)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=KERNELSPEC["name"],
        kernel_manager_class=_ThisPython,
        resources={"metadata": {"path": str(lesson.notebook.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=progress.start,
        on_cell_executed=progress.done,
    )
    inherited = {key: value for key, value in os.environ.items() if key != "COMPANION_RECORD"}
    path = os.pathsep.join(filter(None, [str(lesson.root), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as ipython:  # nobody's own startup files
        settings = {"PYTHONPATH": path, "IPYTHONDIR": ipython}
        try:
            client.execute(env=inherited | settings | environment)
        except (CellControlSignal, DeadKernelError) as error:  # failed, timed out, kernel died
            traceback = getattr(error, "traceback", "") or str(error)
            raise CourseError(
                f"{traceback.rstrip()}\n\n{lesson.stem}: cell {progress.place} failed "
                f"(in notebooks/{lesson.stem}.ipynb, counting all cells from 1). "
                "The notebook was left as it was."
            ) from error
        finally:
            progress.end()
    return progress.timing()


class _ThisPythonOnly(KernelSpecManager):
    """Knows one kernel: the Python that runs this tool, whatever else is installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())  # its argv begins with sys.executable


class _ThisPython(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _only_one(self) -> KernelSpecManager:
        return _ThisPythonOnly(parent=self)

    @default("transport_encryption")
    def _where_possible(self) -> str:
        return "auto"  # else every kernel warns of it


class _Progress:
    """One line on a terminal that says which cell runs; and the time each cell took."""

    def __init__(self, name: str, notebook: NotebookNode) -> None:
        self.name, self.total = name, len(notebook.cells)
        self.place, self.times = 0, []
        self.began = self.cell_began = time.perf_counter()

    def start(self, cell: NotebookNode, cell_index: int) -> None:
        self.place, self.cell_began = cell_index + 1, time.perf_counter()
        if sys.stderr.isatty():
            line = f"{self.name}: cell {self.place} of {self.total}"
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def done(self, cell: NotebookNode, cell_index: int, **_) -> None:
        took = time.perf_counter() - self.cell_began
        self.times.append((took, cell_index + 1, _first_line(cell.source)))

    def end(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def timing(self) -> Timing:
        return Timing(time.perf_counter() - self.began, self.times)


def _first_line(source: str) -> str:
    """The first line that tells what a cell does; else the first."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    dull = ("#", "import ", "from ")
    return next((line for line in lines if not line.startswith(dull)), lines[0] if lines else "")


# --- clean ------------------------------------------------------------------------------------


def clean(notebook: NotebookNode) -> NotebookNode:
    """Take out what differs between runs or needs a kernel; cleaning twice is cleaning once.

    A widget that also has a picture or HTML stays as that, for readers without a kernel. One that
    has neither goes, and so do finished progress bars.
    """
    strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=_EXTRA_KEYS)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [kept for output in cell.outputs if (kept := _cleaned(output))]
    return notebook


def _cleaned(output: NotebookNode) -> NotebookNode | None:
    if output.output_type == "stream":
        if output.name == "stderr":
            output.text = _without_bars(output.text)
        return output if output.text else None
    data = output.get("data", {})
    if "data" in output and not data:  # what a finished bar of `lab.progress` leaves
        return None
    if WIDGET in data:
        if _is_bar(data.get("text/plain", "")) or not needs_no_kernel(data):
            return None
        del data[WIDGET]
    return output


def needs_no_kernel(data: dict[str, object]) -> bool:
    """Whether an output's bundle shows a reader something without a kernel, widgets aside."""
    return any(kind == "text/html" or kind.startswith("image/") for kind in data)


def _without_bars(text: str) -> str:
    """stderr without the states of progress bars, each of which overwrote the one before it."""
    lines = re.split(r"(?<=[\r\n])", text)
    kept = "".join(line for line in lines if line != "\r" and not _is_bar(line))
    return kept if kept.strip() else ""


def _is_bar(text: str) -> bool:
    return bool(_BAR.search(text))


def run_all(
    chosen: Iterable[Lesson], scale: str, *, store: bool | None, changed: bool
) -> dict[str, Timing]:
    """Run lessons one after another, saying how long each took."""
    timings = {}
    for lesson in chosen:
        if changed and not is_stale(lesson):
            continue
        timings[lesson.stem] = run(lesson, scale, store=store)
        print(f"{lesson.stem}  {timings[lesson.stem]}", flush=True)
    return timings
