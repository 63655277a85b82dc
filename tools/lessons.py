"""Keep the course in order: each lesson as text and notebook, run, exported and checked.

    python tools/lessons.py new 08 causal_mask --title "What must a token not see?"
    python tools/lessons.py sync          after editing lessons/*.md or notebooks/*.ipynb
    python tools/lessons.py run 08        run it and store the outputs
    python tools/lessons.py all           everything, for what changed: `make lessons`

A LESSON is lessons/NN_slug.md and notebooks/NN_slug.ipynb: the same cells, as text and with
outputs. Edit either. A tag on a Markdown cell opens a part; in the text:

    +++ {"tags": ["part-predict"]}

part-head        on the title cell `# 07 · A question?`. A `> ` line below the title is the
                 docstring of the exported module. The next cells quote the journal, `> *...*` and
                 `> — journal, 07.12.24`, then say `**After this lesson you can** ...` and
                 `25 minutes · builds on 01 · source`.
part-predict     comes next: `lab.predict(...)`; a later cell has `lab.reveal(...)`.
part-smallest, part-build, part-experiment, part-trap, part-exercise
                 in any order, more than once if need be. The experiment stores a picture, the trap
                 has an `assert`; the exercise is a stub that calls `check.NAME`, a `<details>` hint
                 and the folded solution, which calls it too.
part-answer      comes last; compared cells print its numbers.

Other tags: `draft` on the title cell, while a lesson is being written; `nbval-check-output` on a
cell whose output every later run must repeat; `hide-input`, with `jupyter: {source_hidden: true}`,
on the folded solution. `#| default_exp loss` names the module a lesson exports, `#| export` marks
the cells that go there, `#| export data` those of a further module. See course/form.py.
"""

import argparse
import sys
from pathlib import Path

from course import checks, exporting, mapping, running, template, twins
from course.form import ROOT, CourseError, lessons


def new(args: argparse.Namespace) -> None:
    lesson = template.new(args.number, args.slug, args.title, args.root)
    print(f"lessons/{lesson.stem}.md and notebooks/{lesson.stem}.ipynb are ready to be written")


def sync(args: argparse.Namespace) -> None:
    for lesson in lessons(args.root, args.lessons):
        if said := twins.sync(lesson, args.prefer):
            print(said)


def run(args: argparse.Namespace) -> None:
    sync(args)
    chosen = lessons(args.root, args.lessons)
    running.run_all(chosen, args.scale, store=args.write or None, changed=args.changed)


def record(args: argparse.Namespace) -> None:
    sync(args)
    for lesson in lessons(args.root, args.lessons):
        print(f"{lesson.stem}  {running.record_runs(lesson)}")
        print(f"recorded; now show it: python tools/lessons.py run {lesson.number:02}")


def export(args: argparse.Namespace) -> None:
    for line in exporting.export(args.root):
        print(line)


def write_map(args: argparse.Namespace) -> None:
    for line in mapping.write_maps(args.root):
        print(line)


def verify(args: argparse.Namespace) -> None:
    problems = list(checks.verify(args.root))
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CourseError("\n".join([*map(str, problems), count]))


def everything(args: argparse.Namespace) -> None:
    for step in (sync, write_map, export, run, verify):
        step(args)


def parser() -> argparse.ArgumentParser:
    """The command line. Most commands can name lessons, by number or name; else they mean all."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--root", type=Path, default=ROOT, help="the course's folder")
    top.set_defaults(lessons=[], prefer=None, scale=running.STORED_SCALE, write=False, changed=True)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, about, *, named: str | None = "*"):
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(function=function)
        if named:
            added.add_argument("lessons", nargs=named, help="numbers or names; all if none")
        return added

    made = command("new", new, "start a lesson from the template", named=None)
    made.add_argument("number", type=int)
    made.add_argument("slug")
    made.add_argument("--title", default="What is the question?")

    synced = command("sync", sync, "make text and notebook equal, whichever was edited")
    twins_ = ("text", "notebook")
    synced.add_argument("--from", dest="prefer", choices=twins_, help="which one wins")

    ran = command("run", run, "run notebooks and store their outputs")
    ran.add_argument("--scale", choices=running.SCALES, default=running.STORED_SCALE)
    ran.add_argument("--changed", action="store_true", help="only where the code changed since")
    ran.add_argument("--write", action="store_true", help="store a run at another scale, too")

    command("record", record, "run the recorded experiments in full", named="+")
    command("export", export, "write companion/ from the lessons", named=None)
    command("map", write_map, "write the table of lessons into README and front page", named=None)
    command("verify", verify, "check everything, and say what to do", named=None)
    command("all", everything, "all of it, for what changed", named=None)
    return top


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        args.function(args)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
