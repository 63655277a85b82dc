"""What a lesson is: its two files, its cells, its parts. The constants of the format live here."""

import ast
import hashlib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupytext.config import load_jupytext_configuration_file
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]

PARTS = {
    "part-head": "the title, the journal's question, what you can do afterwards",
    "part-predict": "what the reader commits to before running anything",
    "part-smallest": "the smallest case, printed",
    "part-build": "the code, a few lines a cell",
    "part-experiment": "the measurement that answers the question",
    "part-trap": "a wrong version that runs, and the assertion that catches it",
    "part-exercise": "a stub, its check, hints, the folded solution",
    "part-answer": "the question again, answered",
}
DRAFT = "draft"  # on the title cell: still being written, held to the pipeline's rules only
COMPARED = "nbval-check-output"  # the stored output is what every later run must print
FOLDED = "hide-input"  # with jupyter.source_hidden: the solution of an exercise
FRONT_PAGE = "00_start_here"  # twins and execution as a lesson's; it has no parts
JOURNAL = "lessons/journal.md"
COURSE = "lessons/course.toml"
MINUTES = range(20, 46)
WIDTH = 88  # columns of a code cell; modules have 100
TEXT_METADATA = ("tags", "jupyter", "mystnb")  # what pyproject's jupytext keeps of a cell's
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",  # jupytext writes it on every code fence
}

STEM = re.compile(r"\d\d_[a-z0-9_]+")
_MINUTES = re.compile(r"^(\d+) minutes\b", re.M)


class CourseError(Exception):
    """Something the author must decide or mend; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, where (cells count from 1, Markdown cells too), and what to do about it."""

    file: str
    cell: int | None
    what: str
    do: str

    def __str__(self) -> str:
        place = f", cell {self.cell}" if self.cell else ""
        return f"{self.file}{place}: {self.what}\n    {self.do}"


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Lesson:
    """One lesson of the course at `root`, by the common name of its two files."""

    stem: str
    root: Path = ROOT

    @property
    def number(self) -> int:
        return int(self.stem[:2])

    @property
    def text(self) -> Path:
        return self.root / "lessons" / f"{self.stem}.md"

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / f"{self.stem}.ipynb"


def lessons(root: Path = ROOT, names: Iterable[str] = ()) -> list[Lesson]:
    """The lessons at `root`, or those named by number (`7`), name (`07_cross_entropy`) or file."""
    files = [*(root / "lessons").glob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    stems = sorted({file.stem for file in files if STEM.fullmatch(file.stem)})
    found = [Lesson(stem, root) for stem in stems]
    names = list(names)
    return [_named(name, found) for name in names] if names else found


def _named(name: str, found: list[Lesson]) -> Lesson:
    stem = Path(name).stem
    for lesson in found:
        if stem in (lesson.stem, lesson.stem[3:], f"{lesson.number}", f"{lesson.number:02}"):
            return lesson
    known = ", ".join(lesson.stem for lesson in found) or "none"
    raise CourseError(f"no lesson named {name!r}; there are: {known}")


def write(path: Path, content: str) -> None:
    """Write a whole file or nothing: to a neighbour first, then moved into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(content)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read_text(lesson: Lesson) -> NotebookNode:
    try:
        return parse_text(lesson.text.read_text("utf-8"), lesson.root)
    except Exception as error:  # a parser of free text may raise anything
        raise CourseError(
            f"lessons/{lesson.stem}.md cannot be read as a notebook: {error}\n"
            'Look for a line of `+++ {"tags": ...}` or a code fence that is not closed.'
        ) from error


def parse_text(text: str, root: Path) -> NotebookNode:
    """The notebook that a lesson's text says, without outputs."""
    return jupytext.reads(text, "md:myst", config=_jupytext(root))


def render_text(notebook: NotebookNode, root: Path) -> str:
    """A notebook as text, in the form that JupyterLab's jupytext writes too."""
    notebook = nbformat.from_dict(notebook)
    notebook.cells = [cell for cell in notebook.cells if _key(cell)]
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n").rstrip()
        cell.metadata = {
            name: cell.metadata[name] for name in TEXT_METADATA if cell.metadata.get(name)
        }
    ours = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    notebook.metadata = nbformat.from_dict(ours)
    return jupytext.writes(notebook, "md:myst", config=_jupytext(root))


def _jupytext(root: Path):
    return load_jupytext_configuration_file(str(root / "pyproject.toml"))


def read_notebook(lesson: Lesson) -> NotebookNode:
    return parse_notebook(lesson.notebook.read_text("utf-8"), lesson.notebook.name)


def parse_notebook(content: str, name: str) -> NotebookNode:
    try:
        return nbformat.reads(content, as_version=4)
    except Exception as error:
        raise CourseError(f"notebooks/{name} is not a notebook ({error}); restore it") from error


def has_our_kernel(notebook: NotebookNode) -> bool:
    """Whether the metadata names the course's kernel, and not the one of somebody's machine."""
    found = notebook.metadata
    return found.get("kernelspec") == KERNELSPEC and found.get("language_info") == LANGUAGE_INFO


def write_notebook(lesson: Lesson, notebook: NotebookNode) -> None:
    """Write a notebook with the course's kernel in its metadata, whole or not at all."""
    notebook.metadata.kernelspec = KERNELSPEC
    notebook.metadata.language_info = LANGUAGE_INFO
    notebook.nbformat, notebook.nbformat_minor = 4, max(5, notebook.nbformat_minor)
    nbformat.validate(notebook)
    write(lesson.notebook, nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n")


def stored(root: Path = ROOT) -> Iterator[tuple[Lesson, NotebookNode]]:
    """Every lesson that has a notebook, the front page too, with it."""
    for lesson in lessons(root):
        if lesson.notebook.exists():
            yield lesson, read_notebook(lesson)


def course(root: Path = ROOT) -> list[dict]:
    """The parts of the course, each with its lessons, as lessons/course.toml has them."""
    return tomllib.loads((root / COURSE).read_text("utf-8"))["part"]


# --- cells ------------------------------------------------------------------------------------


def cells(notebook: NotebookNode) -> list[tuple]:
    """What both twins must agree on: type, source and kept metadata of each cell.

    Blank lines around a source and empty Markdown cells do not survive a text, and do not count.
    """
    return [key for cell in notebook.cells if (key := _key(cell))]


def _key(cell: NotebookNode) -> tuple | None:
    source = cell.source.strip("\n").rstrip()
    if not source and cell.cell_type == "markdown":
        return None
    kept = {name: cell.metadata[name] for name in TEXT_METADATA[1:] if cell.metadata.get(name)}
    return cell.cell_type, source, sorted(tags(cell)), json.dumps(kept, sort_keys=True)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def parse_code(source: str) -> ast.Module:
    """The syntax tree of a code cell, magics and all; an empty one if it is not Python."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def digest(notebook: NotebookNode) -> str:
    """The state of all cells, for `synced`."""
    return _sha(cells(notebook))


def code_digest(notebook: NotebookNode) -> str:
    """The state of the code cells, for `ran`: what the stored outputs came from."""
    return _sha([key[:3] for key in cells(notebook) if key[0] == "code" and key[1]])


def _sha(value: list) -> str:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def record(notebook: NotebookNode) -> dict[str, str]:
    """What this tool remembers in a notebook: `synced` and `ran`."""
    return notebook.metadata.setdefault("lesson", {})


# --- parts ------------------------------------------------------------------------------------


def parts(notebook: NotebookNode) -> Iterator[tuple[int, str | None, NotebookNode]]:
    """Each cell with its place (from 1, as a reader counts) and the part it belongs to."""
    part = None
    for place, cell in enumerate(notebook.cells, start=1):
        part = next((tag for tag in tags(cell) if tag in PARTS), part)
        yield place, part, cell


def is_draft(notebook: NotebookNode) -> bool:
    return bool(notebook.cells) and DRAFT in tags(notebook.cells[0])


def title(notebook: NotebookNode) -> str:
    """The question in the title, without the lesson's number."""
    first = notebook.cells[0].source.splitlines()[0] if notebook.cells else ""
    return re.sub(r"^#\s*(\d+\s*·\s*)?", "", first).strip()


def minutes(notebook: NotebookNode) -> int | None:
    head = "\n".join(cell.source for _, part, cell in parts(notebook) if part == "part-head")
    found = _MINUTES.search(head)
    return int(found[1]) if found else None
