"""What holds for every notebook, finished or not: twins, stored outputs, the exported package."""

import ast
import json
import re
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

from nbformat import NotebookNode

from . import exporting, mapping
from .form import (
    COMPARED,
    FRONT_PAGE,
    ROOT,
    WIDTH,
    CourseError,
    Lesson,
    Problem,
    cells,
    code_digest,
    course,
    has_our_kernel,
    lessons,
    parse_code,
    read_notebook,
    read_text,
    record,
    stored,
    tags,
)
from .imports import companion_imports, wrong_ways
from .running import clean, not_run
from .twins import first_difference

_MODULE_WIDTH = 100
_DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[\w+/=\s\\]*")


# --- twins ------------------------------------------------------------------------------------


def twins_are_equal(root: Path = ROOT) -> Iterator[Problem]:
    """Text and notebook of each lesson hold the same cells."""
    for lesson in lessons(root):
        here = f"lessons/{lesson.stem}.md", f"notebooks/{lesson.stem}.ipynb"
        for path, name, other in zip((lesson.text, lesson.notebook), here, here[::-1], strict=True):
            if not path.exists():
                yield Problem(other, None, f"it has no twin {name}", "run `make lessons`")
        if lesson.text.exists() and lesson.notebook.exists():
            twins = cells(read_text(lesson)), cells(read_notebook(lesson))
            if twins[0] != twins[1]:
                place = first_difference(*twins)[0]
                what = f"it differs from {here[0]}"
                yield Problem(
                    here[1], place, what, f"run `tools/lessons.py sync {lesson.number:02}`"
                )


def lessons_are_planned(root: Path = ROOT) -> Iterator[Problem]:
    """Every lesson is in course.toml, every file is a lesson's, and no number is taken twice."""
    planned = [
        f"{one['number']:02}_{one['slug']}" for part in course(root) for one in part["lessons"]
    ]
    found = {lesson.stem for lesson in lessons(root)}
    for stem in sorted(found - {*planned, FRONT_PAGE}):
        do = "put it there, or use the name that stands there"
        yield Problem(f"lessons/{stem}.md", None, "it is not in lessons/course.toml", do)
    for path in sorted([*(root / "lessons").glob("*.md"), *(root / "notebooks").glob("*.ipynb")]):
        if path.stem not in found and path.name != "journal.md":
            name = path.relative_to(root).as_posix()
            yield Problem(name, None, "its name is not NN_slug", "rename it, or move it elsewhere")
    numbers = [stem[:2] for stem in planned]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        yield Problem(
            "lessons/course.toml", None, f"two lessons have the number {number}", "renumber"
        )


# --- stored outputs ---------------------------------------------------------------------------


def outputs_come_from_these_sources(root: Path = ROOT) -> Iterator[Problem]:
    """The stored outputs were made by the code that stands there."""
    for lesson, notebook in stored(root):
        do = f"run `tools/lessons.py run {lesson.number:02}`"
        if not _ran(notebook):
            what = "its code changed since its outputs were stored"
            yield Problem(f"notebooks/{lesson.notebook.name}", None, what, do)
            continue
        for place, cell in enumerate(notebook.cells, start=1):
            if not_run(cell):
                what = "it was not run, or its outputs were cleared"
                yield Problem(f"notebooks/{lesson.notebook.name}", place, what, do)


def _ran(notebook: NotebookNode) -> bool:
    return record(notebook).get("ran") == code_digest(notebook)


def compared_cells_are_stored(root: Path = ROOT) -> Iterator[Problem]:
    """Cells whose output later runs must repeat have one, with an execution count."""
    outdated = {lesson for lesson, notebook in stored(root) if not _ran(notebook)}
    for lesson, place, cell in _code_cells(root):
        if lesson in outdated:  # one problem, not one for each of its cells
            continue
        if COMPARED in tags(cell) and not (cell.outputs and cell.execution_count):
            what = f"it is tagged {COMPARED} and has no stored output to compare with"
            do = "print what it should repeat and run it, or take off the tag"
            yield Problem(f"notebooks/{lesson.notebook.name}", place, what, do)


def outputs_are_clean(root: Path = ROOT) -> Iterator[Problem]:
    """No output needs a kernel, shows a finished progress bar, or carries times of execution."""
    for lesson, notebook in stored(root):
        cleaned = clean(deepcopy(notebook))
        for place, (ours, theirs) in enumerate(zip(notebook.cells, cleaned.cells, strict=True), 1):
            if ours != theirs:
                what = "it stores a widget, a progress bar or execution times"
                do = f"run `tools/lessons.py run {lesson.number:02}`, which cleans"
                yield Problem(f"notebooks/{lesson.notebook.name}", place, what, do)


def no_cell_failed(root: Path = ROOT) -> Iterator[Problem]:
    for lesson, place, cell in _code_cells(root):
        for output in cell.outputs:
            if output.output_type == "error":
                what = f"it stored an error: {output.ename}: {output.evalue}"
                do = "mend it, or catch what it shows on purpose, and run the lesson"
                yield Problem(f"notebooks/{lesson.notebook.name}", place, what, do)


def no_path_of_a_machine(root: Path = ROOT) -> Iterator[Problem]:
    """Stored outputs name no folder of the machine that made them."""
    home, temporary = Path.home().as_posix(), Path(tempfile.gettempdir()).as_posix()
    folders = [root.resolve().as_posix(), f"{home}/", f"{temporary}/", "/tmp/", "/home/", "/Users/"]
    for lesson, place, cell in _code_cells(root):
        content = _DATA_URI.sub("", json.dumps([_without_images(one) for one in cell.outputs]))
        if found := next((folder for folder in folders if folder in content), None):
            what = f"its output holds a path of one machine, with {found!r}"
            yield Problem(f"notebooks/{lesson.notebook.name}", place, what, "print only the name")


def _without_images(output: dict) -> dict:
    data = {kind: value for kind, value in output.get("data", {}).items() if "image/" not in kind}
    return {**output, "data": data}


def kernel_is_anyones(root: Path = ROOT) -> Iterator[Problem]:
    for lesson, notebook in stored(root):
        if not has_our_kernel(notebook):
            what = "its metadata names the kernel of somebody's machine"
            do = "run `make lessons`, which puts `Python 3` there"
            yield Problem(f"notebooks/{lesson.notebook.name}", None, what, do)


def code_fits_the_page(root: Path = ROOT) -> Iterator[Problem]:
    """Code cells have 88 columns at most, so that no reader scrolls sideways."""
    for lesson, place, cell in _code_cells(root):
        if long := [line for line in cell.source.splitlines() if len(line) > WIDTH]:
            lines = "1 line has" if len(long) == 1 else f"{len(long)} lines have"
            what = f"{lines} more than {WIDTH} columns: {long[0].strip()[:40]}..."
            yield Problem(f"notebooks/{lesson.notebook.name}", place, what, "break them")


def _code_cells(root: Path) -> Iterator[tuple[Lesson, int, dict]]:
    for lesson, notebook in stored(root):
        for place, cell in enumerate(notebook.cells, start=1):
            if cell.cell_type == "code":
                yield lesson, place, cell


# --- the exported package ---------------------------------------------------------------------


def companion_is_exported(root: Path = ROOT) -> Iterator[Problem]:
    """companion/ holds what the lessons export now, and else only the rooms written by hand."""
    try:
        fresh = exporting.modules(root)
    except CourseError as error:
        yield Problem("lessons/", None, str(error), "mend the lesson's export cells")
        return
    there = {path.stem: path for path in (root / "companion").glob("*.py")}
    do = "run `make lessons`"
    for name, content in fresh.items():
        if name not in there:
            yield Problem(f"companion/{name}.py", None, "it was not exported yet", do)
        elif there[name].read_text("utf-8") != content:
            stem = exporting.owner_of(content)
            yield Problem(
                f"companion/{name}.py", None, f"it is not what lessons/{stem}.md says", do
            )
    for name in sorted(there.keys() - fresh.keys() - exporting.HAND_WRITTEN):
        what = "no lesson exports it, and it is not one of those written by hand"
        do = "delete it, or write it in a lesson (the list is HAND_WRITTEN in course/exporting.py)"
        yield Problem(f"companion/{name}.py", None, what, do)


def modules_read_as_written_by_hand(root: Path = ROOT) -> Iterator[Problem]:
    """Exported modules have a docstring and the line that names their lesson, and pass ruff."""
    for path in sorted((root / "companion").glob("*.py")):
        content = path.read_text("utf-8")
        name, stem = f"companion/{path.name}", exporting.owner_of(content)
        if path.stem in exporting.HAND_WRITTEN:
            continue
        if stem is None:
            do = "run `make lessons`, unless it was written by hand; then it belongs elsewhere"
            yield Problem(name, None, "no line says which lesson it was exported from", do)
        if not ast.get_docstring(ast.parse(content)):
            do = f"put a `> ` line below the title of lessons/{stem}.md, or a string on top"
            yield Problem(name, None, "it has no docstring", do)
        if re.search(r"^# %%|AUTOGENERATED", content, re.M):
            yield Problem(name, None, "it has marks of its export", "run `make lessons`")
        if long := [line for line in content.splitlines() if len(line) > _MODULE_WIDTH]:
            yield Problem(
                name, None, f"a line is too long: {long[0][:40]}...", "break it in the lesson"
            )
        if exporting.ruff(path.stem, content, root, "format").stdout != content:
            yield Problem(name, None, "ruff would format it otherwise", "run `make lessons`")
        for line in exporting.lint(path.stem, content, root):
            yield Problem(name, None, line, "mend it in the lesson")


def imports_run_one_way(root: Path = ROOT) -> Iterator[Problem]:
    """Down the floors of ARCHITECTURE (lab ... assets), and never to a later lesson's module."""
    for path, line, what in wrong_ways(root):
        do = "turn it round, or let a notebook borrow the later thing through lab"
        yield Problem(f"{path.relative_to(root).as_posix()}:{line}", None, what, do)
    owners = {
        path.stem: stem
        for path in (root / "companion").glob("*.py")
        if (stem := exporting.owner(path))
    }
    for lesson, place, cell in _code_cells(root):
        for _, module in companion_imports(parse_code(cell.source)):
            if owners.get(module, "") > lesson.stem:
                what = f"it imports companion.{module}, which {owners[module]} builds later"
                name = f"notebooks/{lesson.notebook.name}"
                yield Problem(name, place, what, "borrow it through lab")


# --- the map ----------------------------------------------------------------------------------


def maps_are_fresh(root: Path = ROOT) -> Iterator[Problem]:
    """The tables of lessons in the README and on the front page are up to date."""
    for path, fresh in mapping.maps(root).items():
        if path.read_text("utf-8") != fresh:
            what = "its table of lessons is not up to date"
            yield Problem(path.relative_to(root).as_posix(), None, what, "run `make lessons`")
    if Lesson(FRONT_PAGE, root).text not in mapping.maps(root):
        what = "it has no marks `<!-- lessons -->` and `<!-- /lessons -->`"
        yield Problem(f"lessons/{FRONT_PAGE}.md", None, what, "put them where the table belongs")
