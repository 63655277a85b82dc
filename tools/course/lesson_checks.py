"""What a finished lesson gives its reader. Drafts and the front page are not held to it."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from nbformat import NotebookNode

from .form import (
    COMPARED,
    FOLDED,
    FRONT_PAGE,
    JOURNAL,
    MINUTES,
    PARTS,
    ROOT,
    Lesson,
    Problem,
    course,
    is_draft,
    minutes,
    parse_code,
    parts,
    stored,
    tags,
    title,
)

FIRST, LAST = ("part-head", "part-predict"), "part-answer"

_NOT_CLAIMED = r"(?:section|figure|table|equation|lesson|version|PyTorch|torch|Python)\s+"
_NUMBER = re.compile(rf"({_NOT_CLAIMED})?(?<![\w.,])(\d[\d,]*\.\d+)(?![\w]*\.?\d)", re.I)
_QUOTED = re.compile(r"(.*?)— journal, (\d\d\.\d\d\.\d\d)", re.S)
_CHECK = re.compile(r"(?:^|\.)check\.(\w+)$")


def finished(root: Path) -> Iterator[tuple[Lesson, NotebookNode]]:
    for lesson, notebook in stored(root):
        if lesson.stem != FRONT_PAGE and not is_draft(notebook):
            yield lesson, notebook


def of_part(notebook: NotebookNode, wanted: str, kind: str = "") -> list[tuple[int, NotebookNode]]:
    """The cells of a part, with their places; of one type if `kind` is given."""
    return [
        (place, cell)
        for place, part, cell in parts(notebook)
        if part == wanted and kind in ("", cell.cell_type)
    ]


def calls(cell: NotebookNode) -> set[str]:
    """The dotted names that a cell calls: `lab.predict`, `check.loss`."""
    tree = parse_code(cell.source) if cell.cell_type == "code" else ast.Module([], [])
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


# --- parts ------------------------------------------------------------------------------------


def parts_are_in_order(root: Path = ROOT) -> Iterator[Problem]:
    """All parts are there, head and prediction first, the answer last."""
    for lesson, notebook in finished(root):
        name, opened = _name(lesson), []
        for place, cell in enumerate(notebook.cells, start=1):
            marks = [tag for tag in tags(cell) if tag.startswith("part-")]
            for tag in marks:
                if tag not in PARTS:
                    what = f"there is no part {tag!r}"
                    yield Problem(name, place, what, f"take one of {', '.join(PARTS)}")
            if marks and cell.cell_type != "markdown":
                do = "put the tag on the Markdown cell that opens the part"
                yield Problem(name, place, f"a code cell opens {marks[0]}", do)
            if len(marks) > 1:
                yield Problem(name, place, f"one cell opens {' and '.join(marks)}", "keep one tag")
            opened += marks
        for tag in PARTS:
            if tag not in opened:
                do = f'open it with +++ {{"tags": ["{tag}"]}}: {PARTS[tag]}'
                yield Problem(name, None, f"it has no {tag}", do)
        if notebook.cells and FIRST[0] not in tags(notebook.cells[0]):
            yield Problem(name, 1, "it does not open part-head", "tag the title cell so")
        if tuple(opened[:2]) != FIRST and set(FIRST) <= set(opened):
            yield Problem(name, None, "head and prediction do not come first", "move them there")
        if LAST in opened and (opened[-1] != LAST or opened.count(LAST) > 1):
            yield Problem(name, None, "the answer does not come last", "move it to the end")


def head_says_what_and_why(root: Path = ROOT) -> Iterator[Problem]:
    """The head: a question, what you can do afterwards, minutes."""
    for lesson, notebook in finished(root):
        name, head = _name(lesson), of_part(notebook, "part-head", "markdown")
        if not notebook.cells[0].source.startswith(f"# {lesson.number:02} · "):
            do = f"begin with `# {lesson.number:02} · `"
            yield Problem(name, 1, "the title does not have the lesson's number", do)
        if not title(notebook).endswith("?"):
            yield Problem(name, 1, "the title is not a question", "end it with `?`")
        if not any("**After this lesson you can**" in cell.source for _, cell in head):
            do = "write `**After this lesson you can** ...`, three things at most"
            yield Problem(name, None, "the head does not say what one can do afterwards", do)
        took = minutes(notebook)
        if took not in MINUTES:
            what = f"it takes {took} minutes" if took else "the head does not say how long it takes"
            do = (
                f"write `25 minutes · builds on 01 · source`, {MINUTES[0]} to {MINUTES[-1]} minutes"
            )
            yield Problem(name, None, what, do)


def journal_is_quoted_word_for_word(root: Path = ROOT) -> Iterator[Problem]:
    """Quotes in heads and in course.toml stand in the journal, under their date."""
    days = _days(root)
    for lesson, notebook in finished(root):
        quoted = [
            (place, text, date)
            for place, cell in of_part(notebook, "part-head", "markdown")
            for text, date in _quotes(cell.source)
        ]
        if not quoted:
            do = "quote its line: `> *...*` and `> — journal, 07.12.24`"
            yield Problem(_name(lesson), None, "the head does not quote the journal", do)
        for place, text, date in quoted:
            yield from _misquoted(_name(lesson), place, text, date, days)
    for one in (one for part in course(root) for one in part["lessons"]):
        yield from _misquoted("lessons/course.toml", None, one["quote"], one["date"], days)


def _days(root: Path) -> dict[str, str]:
    """The journal's text by date, blanks as one."""
    text = re.sub(r"<!--.*?-->", "", (root / JOURNAL).read_text("utf-8"), flags=re.S)
    pieces = re.split(r"^# (\d\d\.\d\d\.\d\d)\s*$", text, flags=re.M)[1:]
    return {
        date: " ".join(said.split()) for date, said in zip(pieces[::2], pieces[1::2], strict=True)
    }


def _quotes(source: str) -> Iterator[tuple[str, str]]:
    """Each quote of a cell, without its marks, with its date."""
    lines = [line.lstrip("> ") for line in source.splitlines() if line.startswith(">")]
    for text, date in _QUOTED.findall(" ".join(lines)):
        for quote in re.split(r"(?<=\S)\*\s+\*(?=\S)", text.strip()):
            yield quote.strip().removeprefix("*").removesuffix("*"), date


def _misquoted(
    name: str, place: int | None, text: str, date: str, days: dict[str, str]
) -> Iterator[Problem]:
    rest = days.get(date)
    if rest is None:
        yield Problem(
            name, place, f"the journal has no day {date}", f"take one of {', '.join(days)}"
        )
        return
    pieces = [" ".join(piece.split()) for piece in re.split(r"\.\.\.|…", text)]
    for piece in filter(None, pieces):
        if piece not in rest:
            what = f"on {date} the journal does not say {piece!r}"
            yield Problem(name, place, what, "quote it word for word; `...` joins pieces, in order")
            return
        rest = rest.split(piece, 1)[1]
    if not any(pieces):
        yield Problem(name, place, "a quote is empty", "quote the line that the lesson answers")


# --- predict, experiment, pictures ------------------------------------------------------------


def prediction_comes_back(root: Path = ROOT) -> Iterator[Problem]:
    """The reader commits to a guess, and sees it again beside the measurement."""
    for lesson, notebook in finished(root):
        asked = [
            place
            for place, cell in of_part(notebook, "part-predict")
            if "lab.predict" in calls(cell)
        ]
        if not asked:
            do = "ask with `lab.predict(...)` in part-predict"
            yield Problem(_name(lesson), None, "it asks for no prediction", do)
            continue
        after = notebook.cells[asked[0] :]
        if not any("lab.reveal" in calls(cell) for cell in after):
            do = "put `lab.reveal(...)` where it is measured"
            yield Problem(_name(lesson), asked[0], "the prediction never comes back", do)


def experiment_has_a_picture(root: Path = ROOT) -> Iterator[Problem]:
    for lesson, notebook in finished(root):
        experiment = of_part(notebook, "part-experiment", "code")
        if not any(pictures(output) for _, cell in experiment for output in cell.outputs):
            do = "plot the measurement in part-experiment, and run the lesson"
            yield Problem(_name(lesson), None, "its experiment stores no picture", do)


def pictures_have_words(root: Path = ROOT) -> Iterator[Problem]:
    """Every stored picture says in a sentence what it shows, for who cannot see it."""
    for lesson, notebook in stored(root):
        for place, cell in enumerate(notebook.cells, start=1):
            for output in cell.get("outputs", []):
                for alt in pictures(output):
                    if not re.search(r"\w+\W+\w+.*[.!?]$", alt.strip(), re.S):
                        what = f"its picture has no sentence for who cannot see it (alt: {alt!r})"
                        do = "give the figure a text of at least one sentence, and run the lesson"
                        yield Problem(_name(lesson), place, what, do)


def pictures(output: NotebookNode) -> list[str]:
    """The alternative text of each picture in an output; empty where it has none."""
    data, about = output.get("data", {}), output.get("metadata", {})
    in_html = _Images.texts("".join(data.get("text/html", "")))
    if in_html:  # beside an image of another type, it is that image's better form
        return in_html
    kinds = [kind for kind in data if kind.startswith("image/")][:1]
    return [about.get("alt") or about.get(kind, {}).get("alt") or "" for kind in kinds]


class _Images(HTMLParser):
    """Collects the `alt` of every <img>, and the text around them."""

    def __init__(self) -> None:
        super().__init__()
        self.alts, self.words = [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @classmethod
    def texts(cls, html: str) -> list[str]:
        parser = cls()
        parser.feed(html)
        return parser.alts


# --- trap, exercise, answer -------------------------------------------------------------------


def trap_has_its_assertion(root: Path = ROOT) -> Iterator[Problem]:
    for lesson, notebook in finished(root):
        trees = [parse_code(cell.source) for _, cell in of_part(notebook, "part-trap", "code")]
        if not any(isinstance(node, ast.Assert) for tree in trees for node in ast.walk(tree)):
            do = "end part-trap with the line that would have caught it"
            yield Problem(_name(lesson), None, "its trap has no `assert`", do)


def exercise_can_be_checked_and_solved(root: Path = ROOT) -> Iterator[Problem]:
    """Each stub is checked, hinted at, and solved in a folded cell that passes the same check."""
    for lesson, notebook in finished(root):
        name, cells = _name(lesson), of_part(notebook, "part-exercise")
        stubs = [
            (place, one) for place, cell in cells if not _folded(cell) for one in _checks(cell)
        ]
        if not stubs:
            do = "write a stub and `check.NAME(yours)` under it"
            yield Problem(name, None, "its exercise has no stub that is checked", do)
        for place, one in stubs:
            solved = [
                at for at, cell in cells if at > place and _folded(cell) and one in _checks(cell)
            ]
            if not solved:
                do = f"add it, tagged {FOLDED}, with jupyter: {{source_hidden: true}}"
                yield Problem(name, place, f"no folded solution calls check.{one}", do)
            elif not any("<details" in cell.source for at, cell in cells if place < at < solved[0]):
                do = "put `<details><summary>Hint</summary>...</details>` between stub and solution"
                yield Problem(name, place, f"check.{one} comes with no hint", do)
        for place, cell in cells:
            if (FOLDED in tags(cell)) != bool(
                cell.metadata.get("jupyter", {}).get("source_hidden")
            ):
                what = "it is folded on the site or in JupyterLab, not in both"
                do = f"give it both: the tag {FOLDED} and jupyter: {{source_hidden: true}}"
                yield Problem(name, place, what, do)


def _folded(cell: NotebookNode) -> bool:
    return FOLDED in tags(cell)


def _checks(cell: NotebookNode) -> list[str]:
    return sorted(found[1] for name in calls(cell) if (found := _CHECK.search(name)))


def answer_is_measured(root: Path = ROOT) -> Iterator[Problem]:
    """Every number with a decimal point in the answer was printed by a compared cell."""
    for lesson, notebook in finished(root):
        printed = " ".join(
            words
            for cell in notebook.cells
            if COMPARED in tags(cell)
            for output in cell.get("outputs", [])
            for words in _printed(output)
        )
        for place, cell in of_part(notebook, LAST, "markdown"):
            prose = re.sub(r"\]\([^)]*\)|https?://\S+|<!--.*?-->", " ", cell.source, flags=re.S)
            for exempt, number in _NUMBER.findall(prose):
                pattern = rf"(?<![\d.,]){re.escape(number)}(?!\d|\.\d)"
                if not exempt and not re.search(pattern, printed):
                    what = f"the answer says {number}, and no compared cell printed it"
                    do = f"print it in a cell tagged {COMPARED}, or take it out"
                    yield Problem(_name(lesson), place, what, do)


def _printed(output: NotebookNode) -> Iterator[str]:
    """The text that a reader sees of an output."""
    yield output.get("text", "")
    data = output.get("data", {})
    yield data.get("text/plain", "")
    parser = _Images()
    parser.feed(data.get("text/html", ""))
    yield " ".join(parser.words)


def _name(lesson: Lesson) -> str:
    return f"notebooks/{lesson.notebook.name}"
