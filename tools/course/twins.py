"""The text and the notebook of a lesson, kept equal, whichever of them was edited.

The notebook remembers in `metadata.lesson.synced` the state in which both were last equal. A twin
that still is in that state was not edited, so the other one wins. No file times, no guesses.
"""

import subprocess
from difflib import SequenceMatcher

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from .form import (
    TEXT_METADATA,
    CourseError,
    Lesson,
    cells,
    digest,
    has_our_kernel,
    parse_notebook,
    parse_text,
    read_notebook,
    read_text,
    record,
    render_text,
    write,
    write_notebook,
)

_NEW = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}


def sync(lesson: Lesson, prefer: str | None = None) -> str:
    """Make both twins equal; say what was done, or nothing where nothing was.

    prefer: "text" or "notebook", to settle a conflict. Without it, twins that were both edited
    raise a CourseError and nothing is written.
    """
    if not lesson.notebook.exists():
        text_to_notebook(lesson, new_notebook())
        return f"{lesson.stem}: notebook made from the text"
    if not lesson.text.exists():
        notebook_to_text(lesson)
        return f"{lesson.stem}: text made from the notebook"
    text, notebook = read_text(lesson), read_notebook(lesson)
    if cells(text) == cells(notebook):
        if record(notebook).get("synced") != digest(notebook) or not has_our_kernel(notebook):
            record(notebook)["synced"] = digest(notebook)
            write_notebook(lesson, notebook)
        return ""
    winner, why = (prefer, "as told") if prefer else _edited(lesson, text, notebook)
    if winner == "text":
        text_to_notebook(lesson, notebook)
    else:
        notebook_to_text(lesson)
    other = {"text": "notebook", "notebook": "text"}[winner]
    return f"{lesson.stem}: the {other} follows the {winner} ({why})"


def text_to_notebook(lesson: Lesson, notebook: NotebookNode) -> None:
    """Give the notebook the text's cells; cells it had keep their ids, outputs and attachments."""
    notebook.cells = combine(read_text(lesson), notebook)
    record(notebook)["synced"] = digest(notebook)
    write_notebook(lesson, notebook)


def notebook_to_text(lesson: Lesson) -> None:
    """Write the notebook's cells as text, unless the text would not say the same again."""
    notebook = read_notebook(lesson)
    content = render_text(notebook, lesson.root)
    again = cells(parse_text(content, lesson.root))
    if again != cells(notebook):
        place, ours, _ = first_difference(cells(notebook), again)
        raise CourseError(
            f"cell {place} of notebooks/{lesson.stem}.ipynb cannot be written as text: it would be "
            "read back as something else (a line of `+++`, or a code fence with braces, in "
            f"Markdown?). Change it there; nothing was written:\n{_shown(ours)}"
        )
    write(lesson.text, content)
    record(notebook)["synced"] = digest(notebook)
    write_notebook(lesson, notebook)


def combine(text: NotebookNode, notebook: NotebookNode) -> list[NotebookNode]:
    """The text's cells; where the notebook has the cell, or an older form of it, that very cell."""
    ours = [(cell.cell_type, cell.source.strip("\n").rstrip()) for cell in notebook.cells]
    theirs = [(cell.cell_type, cell.source.strip("\n").rstrip()) for cell in text.cells]
    old = _matches(theirs, ours)
    combined = []
    for place, cell in enumerate(text.cells):
        new = notebook.cells[old[place]] if place in old else _NEW[cell.cell_type]()
        new.source = cell.source
        for name in TEXT_METADATA:  # the rest is the notebook's
            new.metadata.pop(name, None)
            if cell.metadata.get(name):
                new.metadata[name] = cell.metadata[name]
        combined.append(new)
    return combined


def _matches(new: list[tuple], old: list[tuple]) -> dict[int, int]:
    """For places in `new`, the place in `old` it came from: unchanged, then moved, then edited."""
    matched: dict[int, int] = {}
    gaps = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, new, old, autojunk=False).get_opcodes():
        if kind == "equal":
            matched.update(zip(range(i1, i2), range(j1, j2), strict=True))
        else:
            gaps.append((range(i1, i2), range(j1, j2)))
    free = [j for _, olds in gaps for j in olds]
    for news, _ in gaps:
        for i in news:
            if (j := next((j for j in free if old[j] == new[i]), None)) is not None:
                matched[i] = j
                free.remove(j)
    for news, olds in gaps:
        rest = [j for j in olds if j in free]
        for i in news:
            if i not in matched and (j := _closest(new[i], old, rest)) is not None:
                matched[i] = j
                rest = [k for k in rest if k > j]
    return matched


def _closest(cell: tuple, old: list[tuple], rest: list[int]) -> int | None:
    """The cell of `rest` that this one is an edit of: of its type, and half the same."""
    for j in rest:
        if old[j][0] == cell[0] and SequenceMatcher(None, old[j][1], cell[1]).ratio() >= 0.5:
            return j
    return None


# --- which of two was edited ------------------------------------------------------------------


def _edited(lesson: Lesson, text: NotebookNode, notebook: NotebookNode) -> tuple[str, str]:
    synced = record(notebook).get("synced")
    if synced:
        states, since = (synced, synced), "they were last equal"
    elif states := _committed(lesson):
        since = "the last commit"
    else:
        newer = max(("text", "notebook"), key=lambda twin: getattr(lesson, twin).stat().st_mtime)
        return newer, "the notebook does not say when they were equal: the newer file"
    if digest(notebook) == states[1] and digest(text) != states[0]:
        return "text", f"only it changed since {since}"
    if digest(text) == states[0] and digest(notebook) != states[1]:
        return "notebook", f"only it changed since {since}"
    place, in_text, in_notebook = first_difference(cells(text), cells(notebook))
    raise CourseError(
        f"lessons/{lesson.stem}.md and notebooks/{lesson.stem}.ipynb both changed since {since}, "
        f"and differ. First in cell {place}:\n"
        f"--- in the text\n{_shown(in_text)}\n--- in the notebook\n{_shown(in_notebook)}\n---\n"
        "Nothing was written. Keep one of them, or make them equal by hand:\n"
        f"  python tools/lessons.py sync {lesson.number:02} --from text\n"
        f"  python tools/lessons.py sync {lesson.number:02} --from notebook"
    )


def _committed(lesson: Lesson) -> tuple[str, str] | None:
    """The states of text and notebook in git's last commit, if it has both."""
    contents = []
    for path in (lesson.text, lesson.notebook):
        show = ["git", "show", f"HEAD:./{path.name}"]
        try:
            done = subprocess.run(show, cwd=path.parent, capture_output=True, encoding="utf-8")
        except OSError:  # no git
            return None
        if done.returncode:
            return None
        contents.append(done.stdout)
    text = parse_text(contents[0], lesson.root)
    return digest(text), digest(parse_notebook(contents[1], lesson.notebook.name))


def first_difference(one: list[tuple], other: list[tuple]) -> tuple[int, tuple, tuple]:
    """The first place (from 1) where two lists of cells differ, and both cells; () for none."""
    for place in range(max(len(one), len(other))):
        pair = [side[place] if place < len(side) else () for side in (one, other)]
        if pair[0] != pair[1]:
            return place + 1, *pair
    raise ValueError("the two lists of cells are equal")


def _shown(cell: tuple) -> str:
    if not cell:
        return "(no such cell)"
    kind, source, tags, kept = cell
    about = f"[{kind}]" + (f" tags {tags}" if tags else "") + (f" {kept}" if kept != "{}" else "")
    lines = source.splitlines()
    return "\n".join([about, *lines[:12], *(["..."] if len(lines) > 12 else [])])
