"""The package companion/, made from the cells that the lessons mark `#| export`.

nbdev collects the cells and writes `__all__`; here its marks are taken off, so that the module
reads like one written by hand, and every module gets a line that names its lesson.
"""

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from nbdev.export import nb_export
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

from .form import ROOT, CourseError, Lesson, lessons, read_notebook, write

HEADER = "# Exported from lessons/{stem}.md: edit that, then run `make lessons`."
HAND_WRITTEN = {"__init__", "assets", "holding"}  # beside the packages lab/ and pretrain/

_HEADER = re.compile(r"^# Exported from lessons/(\w+)\.md: ", re.M)
_DEFAULT = re.compile(r"^#\|\s*default_exp\s+(\w+)\s*$", re.M)
_EXPORT = re.compile(r"^#\|\s*export(?:[ \t]+(\w+))?[ \t]*$", re.M)


def export(root: Path = ROOT) -> list[str]:
    """Bring companion/ up to date; return what was written or deleted, one line each.

    What `ruff check` finds in a module (an import that is not used, say) is raised at the end.
    """
    fresh = modules(root)
    folder, said = root / "companion", []
    for name, content in fresh.items():
        path = folder / f"{name}.py"
        if not path.exists() or path.read_text("utf-8") != content:
            write(path, content)
            said.append(f"companion/{name}.py written from lessons/{owner_of(content)}.md")
    for path in sorted(folder.glob("*.py")):
        if path.stem not in fresh and (stem := owner(path)):
            path.unlink()
            said.append(f"companion/{path.name} deleted: lessons/{stem}.md exports it no more")
    if found := [line for name, content in fresh.items() for line in lint(name, content, root)]:
        raise CourseError("\n".join([*said, *found, "mend the lesson's export cells"]))
    return said


def is_hand_written(root: Path, name: str) -> bool:
    """Whether companion/ has a package of this name, or a module that no lesson exported."""
    path = root / "companion" / name
    module = path.with_suffix(".py")
    return path.is_dir() or (module.exists() and owner(module) is None)


def owner(path: Path) -> str | None:
    """The lesson that a module says it was exported from; None for one written by hand."""
    return owner_of(path.read_text("utf-8"))


def owner_of(content: str) -> str | None:
    found = _HEADER.search(content)
    return found[1] if found else None


def modules(root: Path = ROOT) -> dict[str, str]:
    """What the lessons export: the content of each module, by name, in course order."""
    fresh: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for lesson in lessons(root):
            if not lesson.notebook.exists():
                continue
            for name, notebook in exported(lesson).items():
                if is_hand_written(root, name):
                    raise CourseError(
                        f"companion/{name} is written by hand (no line `# Exported from ...`), "
                        f"and lessons/{lesson.stem}.md exports a module of that name; rename one"
                    )
                if name in fresh:
                    raise CourseError(
                        f"lessons/{lesson.stem}.md and lessons/{owner_of(fresh[name])}.md both "
                        f"export the module {name!r}; a module has one lesson, so rename one"
                    )
                fresh[name] = _module(name, notebook, lesson, Path(temporary))
    return fresh


def exported(lesson: Lesson) -> dict[str, NotebookNode]:
    """The notebook's export cells, as one small notebook for each module.

    `#| export` cells belong to the module that `#| default_exp` names, `#| export data` ones to
    `data`. A module's docstring is the `> ` line in the title cell or, for a further module, a
    string that opens its first cell.
    """
    notebook = read_notebook(lesson)
    code = [
        (at, cell.source) for at, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"
    ]
    main = next((found[1] for _, source in code if (found := _DEFAULT.search(source))), None)
    made: dict[str, NotebookNode] = {}
    docstrings: dict[str, str] = {}
    for place, source in code:
        if not (mark := _EXPORT.search(source)):
            continue
        name = mark[1] or main
        if name is None:
            raise CourseError(
                f"{lesson.stem} has a cell marked `#| export` and none with `#| default_exp NAME`: "
                "say there which module the code goes to"
            )
        source = _DEFAULT.sub("", source[: mark.start()] + source[mark.end() :]).strip("\n")
        try:
            ast.parse(source)
        except SyntaxError as error:
            raise CourseError(
                f"{lesson.stem}, cell {place}: an exported cell must be plain Python ({error.msg})"
            ) from error
        if name not in made:
            made[name] = new_notebook(cells=[new_code_cell(f"#| default_exp {name}")])
            docstrings[name] = _title_docstring(notebook) if name == main else ""
            if not docstrings[name]:
                source, docstrings[name] = _lifted_docstring(source)
        made[name].cells.append(new_code_cell(f"#| export\n{source}"))
    for name, small in made.items():
        quoted = "\n".join(f"> {line}" for line in docstrings[name].splitlines())
        small.cells.insert(0, new_markdown_cell(f"# {lesson.stem}\n\n{quoted}"))
    return made


def _title_docstring(notebook: NotebookNode) -> str:
    """The `> ` lines below the title."""
    title = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    lines = [line[1:].strip() for line in title.splitlines() if line.startswith(">")]
    return "\n".join(lines).strip()


def _lifted_docstring(source: str) -> tuple[str, str]:
    """Source without a string that opens it, and that string."""
    body = ast.parse(source).body
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        return source, ""
    lines = source.splitlines()
    return "\n".join(lines[first.end_lineno :]).strip("\n"), first.value.strip()


def _module(name: str, notebook: NotebookNode, lesson: Lesson, temporary: Path) -> str:
    """The module as nbdev writes it, tidied."""
    place = temporary / f"{lesson.stem}.ipynb"
    place.write_text(writes(notebook), "utf-8")
    nb_export(place, lib_path=temporary / "companion")
    content = (temporary / "companion" / f"{name}.py").read_text("utf-8")
    content = re.sub(r"^# AUTOGENERATED!.*$", HEADER.format(stem=lesson.stem), content, flags=re.M)
    content = re.sub(r"^# %%.*\n", "", content, flags=re.M)
    return _formatted(name, _absolute_imports(content), lesson)


def _absolute_imports(content: str) -> str:
    """`from .scores import x`, as nbdev leaves it, back to `from companion.scores import x`."""
    lines = content.splitlines()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = f"companion.{node.module}" if node.module else "companion"
            line = lines[node.lineno - 1]
            line = re.sub(r"\bfrom\s+\.[\w.]*\s+import", f"from {module} import", line)
            lines[node.lineno - 1] = line
    return "\n".join(lines) + "\n"


def _formatted(name: str, content: str, lesson: Lesson) -> str:
    """Imports and `__all__` in order, then ruff's format: what needs no thought."""
    for command in (("check", "--fix-only", "--select=I,RUF022"), ("format",)):
        done = ruff(name, content, lesson.root, *command)
        if done.returncode:
            raise CourseError(f"{lesson.stem}: ruff cannot read {name}.py\n{done.stderr}")
        content = done.stdout
    return content


def lint(name: str, content: str, root: Path) -> list[str]:
    """What `ruff check` finds in a module, one line each; unused imports are for the author."""
    done = ruff(name, content, root, "check", "--no-fix", "--output-format=concise")
    if not done.returncode:
        return []
    found = [line for line in done.stdout.splitlines() if line.startswith("companion/")]
    where = f"(exported from lessons/{owner_of(content)}.md)"
    return [f"{line} {where}" for line in found] or [done.stderr or done.stdout]


def ruff(name: str, content: str, root: Path, *command: str) -> subprocess.CompletedProcess:
    """ruff on a module that need not exist yet, with the project's own settings."""
    settings = ["--quiet", "--no-cache", "--line-length=100"]
    as_if = ["--stdin-filename", f"companion/{name}.py", "-"]
    line = [sys.executable, "-m", "ruff", *command, *settings, *as_if]
    return subprocess.run(line, cwd=root, input=content, capture_output=True, encoding="utf-8")
