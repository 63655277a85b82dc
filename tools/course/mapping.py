"""The table of lessons, in the README and on the front page, from course.toml and the heads."""

import re
from pathlib import Path

from .form import (
    FRONT_PAGE,
    ROOT,
    Lesson,
    course,
    is_draft,
    minutes,
    read_text,
    title,
    write,
)
from .twins import sync

_MARKED = re.compile(r"(<!-- lessons -->\n).*?(<!-- /lessons -->)", re.S)
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def write_maps(root: Path = ROOT) -> list[str]:
    """Bring the tables up to date; return the files that changed."""
    front_page = Lesson(FRONT_PAGE, root)
    if front_page.text.exists():
        sync(front_page)
    changed = []
    for path, fresh in maps(root).items():
        if path.read_text("utf-8") != fresh:
            write(path, fresh)
            changed.append(path.relative_to(root).as_posix())
    if front_page.text.exists():
        sync(front_page)
    return [f"{name}: table of lessons brought up to date" for name in changed]


def maps(root: Path = ROOT) -> dict[Path, str]:
    """What each file with the marks `<!-- lessons -->` and `<!-- /lessons -->` should hold."""
    links = {root / "README.md": "notebooks/", Lesson(FRONT_PAGE, root).text: ""}
    contents = {path: path.read_text("utf-8") for path in links if path.exists()}
    return {
        path: _MARKED.sub(lambda m, at=path: f"{m[1]}\n{tables(root, links[at])}\n{m[2]}", content)
        for path, content in contents.items()
        if _MARKED.search(content)
    }


def tables(root: Path, link: str) -> str:
    """One short table for each part. `link` is the way to the notebooks from where it stands."""
    lines = []
    for numeral, part in zip(_NUMERALS, course(root), strict=False):
        lines += [f"### {numeral} · {part['title']}", ""]
        lines += ["| Lesson | The journal asks | Minutes |", "|---|---|---|"]
        lines += [_row(one, root, link) for one in part["lessons"]]
        lines.append("")
    return "\n".join(lines)


def _row(planned: dict, root: Path, link: str) -> str:
    lesson = Lesson(f"{planned['number']:02}_{planned['slug']}", root)
    name = f"{lesson.number:02}&nbsp;·&nbsp;to&nbsp;come"  # in one line, however narrow the column
    took = ""
    if lesson.text.exists() and not is_draft(text := read_text(lesson)):
        name = f"[{lesson.number:02} · {title(text)}]({link}{lesson.notebook.name})"
        took = minutes(text) or ""
    question = planned["quote"].replace("|", r"\|")
    return f"| {name} | *{question}* | {took} |"
