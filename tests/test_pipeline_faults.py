"""Each property of the pipeline, seen to fail on a planted fault; and sync, run, export, clean.

A small course is made once, run for real, and copied for every test.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import jupytext
import jupytext.cli
import nbformat
import pytest
from course import checks, exporting, form, lesson_checks, pipeline_checks, running, twins
from course.form import ROOT, CourseError, Lesson
from nbformat.v4 import new_markdown_cell, new_output

import lessons as tool

JOURNAL = """\
<!-- notes -->

# 07.09.24

- what is twice two? i never
  could say
- and thrice?

# 07.10.24

is half of it
enough?
"""

COURSE = """\
[[part]]
title = "Numbers"
lessons = [
  { number = 1, slug = "twice", date = "07.09.24", quote = "what is twice two?" },
  { number = 2, slug = "half", date = "07.10.24", quote = "is half ... enough?" },
  { number = 3, slug = "later", date = "07.09.24", quote = "and thrice?" },
]
"""

FRONT_PAGE = """\
# First Questions

+++

<!-- lessons -->
<!-- /lessons -->
"""

LAB = '''\
"""A bench of one plank."""

from types import SimpleNamespace

from IPython.display import HTML, display


def predict(**questions):
    display(HTML("<p>Your guess?</p>"))


def reveal(**measured):
    print(measured)


def show(alt):
    display(HTML(f'<img src="data:," alt="{alt}">'))


check = SimpleNamespace(same=lambda answer: print("not yet" if answer(3) is None else "right"))
'''

LESSON = """\
+++ {{"tags": ["part-head"]}}

# {number:02} · What is {name}?

> Numbers, {name}.

+++

> *{quote}*
> — journal, {date}

+++

**After this lesson you can** say what {name} is.

25 minutes · builds on nothing · arithmetic

```{{code-cell}} ipython3
#| default_exp {name}
```

```{{code-cell}} ipython3
from companion import lab
from companion.lab import check
```

+++ {{"tags": ["part-predict"]}}

## Predict

```{{code-cell}} ipython3
lab.predict(two="{name} of two")
```

+++ {{"tags": ["part-smallest"]}}

## Smallest case

```{{code-cell}} ipython3
:tags: [nbval-check-output]

print("1.25 and 3")
```

+++ {{"tags": ["part-build"]}}

## Build

```{{code-cell}} ipython3
#| export
{export}
```

+++ {{"tags": ["part-experiment"]}}

## Measure

```{{code-cell}} ipython3
lab.show(alt="A line that rises.")
lab.reveal(two={name}(2))
```

+++ {{"tags": ["part-trap"]}}

## Trap

```{{code-cell}} ipython3
assert {name}(0) == 0
```

+++ {{"tags": ["part-exercise"]}}

## Exercise

```{{code-cell}} ipython3
:tags: [nbval-check-output]

def yours(x):
    return None


check.same(yours)
```

<details><summary>Hint</summary>Look at it.</details>

```{{code-cell}} ipython3
:tags: [hide-input, nbval-check-output]
:jupyter: {{source_hidden: true}}

def yours(x):
    return {name}(x)


check.same(yours)
```

+++ {{"tags": ["part-answer"]}}

## So?

It is 1.25, as section 3.2 says (07.09.24).
"""

TWICE = '''\
def twice(x: float) -> float:
    """Two of it."""
    return 2 * x'''

HALF = '''\
from companion.twice import twice


def half(x: float) -> float:
    """The half of it."""
    return twice(x) / 4'''


# --- a small course ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A valid course of two lessons, synced, exported and run as `make lessons` does it."""
    root = tmp_path_factory.mktemp("made")
    lessons = {
        "01_twice": {"number": 1, "name": "twice", "export": TWICE, "date": "07.09.24"},
        "02_half": {"number": 2, "name": "half", "export": HALF, "date": "07.10.24"},
    }
    lessons["01_twice"]["quote"] = "what is twice two? ... could\n> say"
    lessons["02_half"]["quote"] = "is half of it enough?"
    files = {
        "lessons/journal.md": JOURNAL,
        "lessons/course.toml": COURSE,
        "lessons/00_start_here.md": FRONT_PAGE,
        "README.md": "# Course\n\n<!-- lessons -->\n<!-- /lessons -->\n",
        "companion/__init__.py": '"""The package of a small course."""\n',
        "companion/assets.py": '"""The ground floor."""\n',
        "companion/lab/__init__.py": LAB,
        "pyproject.toml": (ROOT / "pyproject.toml").read_text("utf-8"),
        **{f"lessons/{stem}.md": LESSON.format(**about) for stem, about in lessons.items()},
    }
    for name, content in files.items():
        form.write(root / name, content)
    assert tool.main(["--root", str(root), "all"]) == 0
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "course")


@pytest.fixture
def lesson(root):
    return Lesson("01_twice", root)


@contextmanager
def edited(lesson):
    """The notebook, to be changed in place and written as an editor would: nothing else changes."""
    notebook = nbformat.read(lesson.notebook, as_version=4)
    yield notebook
    nbformat.write(notebook, lesson.notebook)


def cell_of(notebook, words):
    return next(cell for cell in notebook.cells if words in cell.source)


def replace(path, old, new):
    content = path.read_text("utf-8")
    assert old in content, f"{old!r} is not in {path.name}: the fault was not planted"
    path.write_text(content.replace(old, new), "utf-8")


def contents(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*.*")) if path.is_file()}


# --- faults -----------------------------------------------------------------------------------


def source(words, old, new):
    """A fault in the notebook: `old` replaced in the cell that says `words`."""

    def plant(lesson):
        with edited(lesson) as notebook:
            cell = cell_of(notebook, words)
            assert old in cell.source
            cell.source = cell.source.replace(old, new)

    return plant


def tagged(words, tags):
    """A fault in the notebook: other tags on the cell that says `words`."""

    def plant(lesson):
        with edited(lesson) as notebook:
            cell = cell_of(notebook, words)
            assert cell.metadata.get("tags", []) != tags
            cell.metadata.tags = tags

    return plant


def output(words, *outputs, count=1):
    """A fault in what the cell that says `words` stores."""

    def plant(lesson):
        with edited(lesson) as notebook:
            cell = cell_of(notebook, words)
            cell.outputs, cell.execution_count = [deepcopy(one) for one in outputs], count

    return plant


def file(name, old, new):
    """A fault in a file of the course."""
    return lambda lesson: replace(lesson.root / name, old, new)


def imported(module, line):
    """An import on top of a module, or in its first function."""

    def plant(lesson):
        path = lesson.root / "companion" / f"{module}.py"
        if "def " in path.read_text("utf-8"):
            replace(path, "    return", f"    {line}\n    return")
        else:
            form.write(path, f"{line}\n")

    return plant


def new_file(name, content=""):
    return lambda lesson: form.write(lesson.root / name, content)


def lost(name):
    return lambda lesson: (lesson.root / name).unlink()


def metadata(**changes):
    def plant(lesson):
        with edited(lesson) as notebook:
            notebook.metadata.update(changes)

    return plant


def moved(words, place):
    """The cell that says `words`, moved."""

    def plant(lesson):
        with edited(lesson) as notebook:
            cell = cell_of(notebook, words)
            notebook.cells.remove(cell)
            notebook.cells.insert(place, cell)

    return plant


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


WIDGET = {running.WIDGET: {"model_id": "1"}, "text/plain": "HBox()"}
PIXEL = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
FAILED = new_output("error", ename="ValueError", evalue="n_embd=100", traceback=[])
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "mine"}
EXPORTED = "# Exported from lessons/01_twice.md: edit that, then run `make lessons`.\n"

PIPELINE, LESSONS = pipeline_checks, lesson_checks
FAULTS = {
    # twins
    PIPELINE.twins_are_equal: [
        (source("## Trap", "Trap", "Snare"), "cell 14: it differs from"),
        (tagged("## Trap", []), "cell 14: it differs from"),
        (source("print(", "1.25", "1.26"), "cell 9: it differs from"),
        (file("lessons/01_twice.md", "source_hidden: true", "source_hidden: false"), "cell 19: it"),
        (file("lessons/01_twice.md", "## So?\n", "## So?\n\n+++\n"), "cell 20: it differs from"),
        (lost("lessons/02_half.md"), "it has no twin lessons/02_half.md"),
        (lost("notebooks/01_twice.ipynb"), "it has no twin notebooks/01_twice.ipynb"),
    ],
    PIPELINE.lessons_are_planned: [
        (file("lessons/course.toml", '"twice"', '"double"'), "01_twice.md: it is not in"),
        (file("lessons/course.toml", "= 3", "= 2"), "two lessons have the number 02"),
        (new_file("lessons/notes.md"), "lessons/notes.md: its name"),
        (new_file("notebooks/Untitled.ipynb"), "notebooks/Untitled.ipynb: its name"),
    ],
    # stored outputs
    PIPELINE.outputs_come_from_these_sources: [
        (source("print(", "1.25", "1.5"), "its code changed"),
        (metadata(lesson={}), "its code changed"),
        (output("assert", count=None), "cell 15: it was not run"),
    ],
    PIPELINE.compared_cells_are_stored: [
        (output("1.25"), "cell 9: it is tagged"),
        (output("1.25", printed("1.25\n"), count=None), "cell 9: it is tagged"),
    ],
    PIPELINE.outputs_are_clean: [
        (output("assert", shown(WIDGET)), "cell 15: it stores a widget"),
        (output("assert", printed(" 9%|# | 1/9", "stderr")), "cell 15: it stores a widget"),
    ],
    PIPELINE.no_cell_failed: [
        (output("assert", FAILED), "cell 15: it stored an error: ValueError: n_embd=100"),
    ],
    PIPELINE.no_path_of_a_machine: [
        (output("assert", printed("in /tmp/x.py")), "cell 15: its output holds a path"),
        (output("assert", printed(f"{Path.home()}/x")), "cell 15: its output holds a path"),
        (output("assert", shown({"text/html": "<a href='/home/me/x'>x</a>"})), "cell 15: its out"),
    ],
    PIPELINE.kernel_is_anyones: [
        (metadata(kernelspec=KERNEL), "the kernel of somebody's machine"),
    ],
    PIPELINE.code_fits_the_page: [
        (source("assert", "==", "==" + 80 * " "), "cell 15: 1 line has more than 88 columns"),
    ],
    # the exported package
    PIPELINE.companion_is_exported: [
        (file("companion/twice.py", "2 * x", "x + x"), "companion/twice.py: it is not what"),
        (source("def twice", "2 * x", "x + x"), "companion/twice.py: it is not what"),
        (lost("companion/half.py"), "companion/half.py: it was not exported yet"),
        (new_file("companion/old.py", EXPORTED), "companion/old.py: no lesson exports it"),
        (new_file("companion/mine.py"), "companion/mine.py: no lesson exports it"),
        (source("def twice", "2 * x", "2 *"), "01_twice, cell 11: an exported cell must be plain"),
        (source("#| default", "twice", "half"), "both export the module 'half'"),
        (source("#| default", "#|", "#"), "none with `#| default_exp NAME`"),
    ],
    PIPELINE.modules_read_as_written_by_hand: [
        (file("companion/twice.py", "# Exported", "#"), "no line says which lesson"),
        (file("companion/twice.py", '"""Numbers, twice."""', ""), "it has no docstring"),
        (file("companion/twice.py", "def twice", "# %% auto 0\ndef twice"), "marks of its export"),
        (file("companion/twice.py", "Two of it", "Two of it" * 12), "a line is too long"),
        (file("companion/twice.py", "2 * x", "2*x"), "ruff would format it otherwise"),
        (file("companion/twice.py", "return 2 * x", "unused = 1"), "twice.py:10:5: F841"),
    ],
    PIPELINE.imports_run_one_way: [
        (imported("twice", "from companion import lab"), "lab, which lies above it"),
        (imported("twice", "import companion.lab.table as t"), "lab, which lies above it"),
        (imported("twice", "import companion.half"), "01_twice imports what 02_half exports"),
        (imported("assets", "from .twice import twice"), "twice, which lies above it"),
        (imported("__init__", "from . import assets"), "assets, on the same floor"),
        (new_file("companion/pretrain/x.py", "from ..lab import show"), "lab, which lies above it"),
        (source("assert", "a", "import companion.half; a"), "cell 15: it imports companion.half"),
    ],
    # the map
    PIPELINE.maps_are_fresh: [
        (file("README.md", "| 25 |", "| 30 |"), "README.md: its table"),
        (file("lessons/00_start_here.md", "and thrice?", "?"), "00_start_here.md: its table"),
        (file("lessons/01_twice.md", "25 minutes", "30 minutes"), "README.md: its table"),
        (file("lessons/00_start_here.md", "<!-- /lessons", "<!-- l"), "it has no marks"),
    ],
    # parts and head
    LESSONS.parts_are_in_order: [
        (tagged("# 01", []), "it has no part-head"),
        (tagged("## Predict", []), "it has no part-predict"),
        (tagged("## Smallest", []), "it has no part-smallest"),
        (tagged("## Build", []), "it has no part-build"),
        (tagged("## Measure", []), "it has no part-experiment"),
        (tagged("## Trap", []), "it has no part-trap"),
        (tagged("## Exercise", []), "it has no part-exercise"),
        (tagged("## So?", []), "it has no part-answer"),
        (tagged("## Trap", ["part-traps"]), "cell 14: there is no part 'part-traps'"),
        (tagged("assert", ["part-trap"]), "cell 15: a code cell opens part-trap"),
        (tagged("## Trap", ["part-trap", "part-build"]), "cell 14: one cell opens"),
        (moved("## Predict", 12), "head and prediction do not come first"),
        (moved("## So?", 12), "the answer does not come last"),
    ],
    LESSONS.head_says_what_and_why: [
        (source("# 01", "twice?", "twice."), "cell 1: the title is not a question"),
        (source("# 01", "01", "02"), "cell 1: the title does not have the lesson's number"),
        (source("25 minutes", "25", "50"), "it takes 50 minutes"),
        (source("25 minutes", "25 minutes", "A while"), "does not say how long"),
        (source("25 minutes", "**After", "**Before"), "does not say what one can do"),
    ],
    LESSONS.journal_is_quoted_word_for_word: [
        (source("> — j", "journal", "diary"), "the head does not quote the journal"),
        (source("> — j", "could", "should"), "the journal does not say 'should say'"),
        (source("> — j", "07.09", "07.10"), "on 07.10.24 the journal does not say"),
        (source("> — j", "07.09", "08.09"), "the journal has no day 08.09.24"),
        (source("> — j", "> *what", "> *and once?*\n> *what"), "does not say 'and once?'"),
        (source("> — j", "... could", "... what is"), "the journal does not say 'what is"),
        (file("lessons/course.toml", "is half", "is it"), "lessons/course.toml: on 07.10.24"),
    ],
    # prediction, pictures
    LESSONS.prediction_comes_back: [
        (source("lab.predict", "lab.", "# lab."), "it asks for no prediction"),
        (source("lab.reveal", "lab.reveal", "print"), "the prediction never comes back"),
        (moved("lab.reveal", 2), "the prediction never comes back"),
    ],
    LESSONS.experiment_has_a_picture: [
        (output("lab.show", printed("none")), "its experiment stores no picture"),
        (tagged("## Measure", ["part-trap"]), "its experiment stores no picture"),
    ],
    LESSONS.pictures_have_words: [
        (output("lab.show", shown(PIXEL)), "cell 13: its picture has no sentence"),
        (output("assert", shown({"text/html": "<img src=''>"})), "cell 15: its picture has"),
        (output("assert", shown({"text/html": "<img alt='A plot'>"})), "cell 15: its picture has"),
        (output("assert", shown({"image/svg+xml": "<svg/>"}, alt="Rises.")), "cell 15: its pict"),
    ],
    # trap, exercise, answer
    LESSONS.trap_has_its_assertion: [
        (source("assert", "assert ", "# assert "), "its trap has no `assert`"),
    ],
    LESSONS.exercise_can_be_checked_and_solved: [
        (source("None", "check.", "# check."), "no stub that is checked"),
        (source("return twice(x)", "check.", "# check."), "no folded solution calls check.same"),
        (source("return twice(x)", "check.same", "check.other"), "no folded solution calls"),
        (source("<details", "<details", "<p"), "check.same comes with no hint"),
        (tagged("return twice(x)", []), "cell 19: it is folded on the site or in JupyterLab"),
    ],
    LESSONS.answer_is_measured: [
        (source("## So?", "1.25", "1.2"), "the answer says 1.2,"),
        (source("## So?", "1.25", "11.25"), "the answer says 11.25"),
        (source("## So?", "1.25", "3.0"), "the answer says 3.0,"),
        (output("1.25", printed("1.255 and 1.25.3\n")), "the answer says 1.25"),
        (tagged("1.25 and", []), "the answer says 1.25"),
    ],
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_a_valid_course_has_no_problem(check, made):
    assert list(check(made)) == []


@pytest.mark.parametrize(
    ("check", "plant", "named"),
    [
        pytest.param(check, plant, named, id=f"{check.__name__}: {named}")
        for check, faults in FAULTS.items()
        for plant, named in faults
    ],
)
def test_a_planted_fault_is_named(check, plant, named, lesson):
    plant(lesson)
    found = "\n".join(map(str, check(lesson.root)))
    assert named in found


def test_every_check_has_a_fault():
    assert set(FAULTS) == set(checks.CHECKS)


def test_a_draft_is_held_to_the_pipeline_only(lesson):
    with edited(lesson) as notebook:
        notebook.cells = notebook.cells[:1]
    faults = [problem for check in checks.CHECKS[13:] for problem in check(lesson.root)]
    assert faults
    with edited(lesson) as notebook:
        notebook.cells[0].metadata.tags.append("draft")
    assert not [problem for check in checks.CHECKS[13:] for problem in check(lesson.root)]
    assert list(pipeline_checks.twins_are_equal(lesson.root))


def test_verify_lists_the_problems_and_fails(lesson, capsys):
    source("## So?", "1.25", "1.5")(lesson)
    assert tool.main(["--root", str(lesson.root), "verify"]) == 1
    said = capsys.readouterr().err
    assert "notebooks/01_twice.ipynb, cell 20: the answer says 1.5" in said
    assert "2 problems" in said


# --- sync -------------------------------------------------------------------------------------


def test_an_edited_notebook_gives_its_text(lesson):
    with edited(lesson) as notebook:
        cell_of(notebook, "## Trap").source += "\n\nMind √x."
        notebook.cells.append(new_markdown_cell(""))  # an editor leaves one at the end
    assert twins.sync(lesson) == (
        "01_twice: the text follows the notebook (only it changed since they were last equal)"
    )
    assert "Mind √x." in lesson.text.read_text("utf-8")
    assert twins.sync(lesson) == ""
    assert not list(pipeline_checks.twins_are_equal(lesson.root))


def test_an_edited_text_gives_its_notebook_and_keeps_ids_and_outputs(lesson):
    before = form.read_notebook(lesson)
    replace(
        lesson.text, "## Trap\n", "## Trap\n\nMind √x.\n\n```{code-cell} ipython3\n1 + 1\n```\n"
    )
    replace(lesson.text, 'print("1.25 and 3")', 'print("1.25 and 4")')
    assert "the notebook follows the text" in twins.sync(lesson)
    after = form.read_notebook(lesson)
    assert not list(pipeline_checks.twins_are_equal(lesson.root))
    assert "√x" in cell_of(after, "## Trap").source
    added = cell_of(after, "1 + 1")
    assert added.outputs == []
    assert added.id not in {cell.id for cell in before.cells}
    kept = [cell for cell in after.cells if cell.id != added.id]
    assert [cell.id for cell in kept] == [cell.id for cell in before.cells]
    assert [cell.get("outputs") for cell in kept] == [cell.get("outputs") for cell in before.cells]
    assert running.is_stale(lesson)


def test_moved_cells_keep_their_outputs(lesson):
    before = {cell.id: cell for cell in form.read_notebook(lesson).cells}
    text = lesson.text.read_text("utf-8")
    start, end = (
        text.index('+++ {"tags": ["part-smallest"]}'),
        text.index('+++ {"tags": ["part-build"]}'),
    )
    smallest, answer = text[start:end], text.index('+++ {"tags": ["part-answer"]}')
    lesson.text.write_text(text[:start] + text[end:answer] + smallest + text[answer:], "utf-8")
    twins.sync(lesson)
    after = form.read_notebook(lesson)
    assert {cell.id: cell for cell in after.cells} == before
    assert [cell.id for cell in after.cells] != list(before)


def test_lab_with_jupytext_writes_both_and_sync_only_notes_it(lesson):
    before = form.read_notebook(lesson)
    manager = jupytext.TextFileContentsManager(root_dir=str(lesson.root))
    model = manager.get(f"notebooks/{lesson.notebook.name}")
    cell_of(model["content"], "## Trap").source += "\n\nMind √x."
    manager.save(model, f"notebooks/{lesson.notebook.name}")
    assert "Mind √x." in lesson.text.read_text("utf-8")
    notebook = form.read_notebook(lesson)
    assert notebook.metadata.lesson == before.metadata.lesson
    assert lesson.text.read_text("utf-8") == form.render_text(notebook, lesson.root)
    assert twins.sync(lesson) == ""
    assert form.read_notebook(lesson).metadata.lesson.synced == form.digest(notebook)
    assert not list(pipeline_checks.twins_are_equal(lesson.root))
    replace(lesson.text, "Mind √x.", "Mind ∛x.")
    assert "the notebook follows the text" in twins.sync(lesson)


def test_jupytext_and_nbstripout_keep_what_the_notebook_remembers(lesson):
    before = form.read_notebook(lesson).metadata.lesson
    replace(lesson.text, "## Trap", "## Snare")
    os.utime(lesson.text, (time.time() + 5, time.time() + 5))
    jupytext.cli.jupytext(["--sync", "--quiet", str(lesson.text)])
    subprocess.run([sys.executable, "-m", "nbstripout", str(lesson.notebook)], check=True)
    notebook = form.read_notebook(lesson)
    assert cell_of(notebook, "## Snare")
    assert notebook.metadata.lesson == before


def test_twins_that_were_both_edited_are_refused(lesson, capsys):
    replace(lesson.text, "## Trap", "## Snare")
    with edited(lesson) as notebook:
        cell_of(notebook, "## Trap").source = "## Pitfall"
    before = contents(lesson.root)
    assert tool.main(["--root", str(lesson.root), "sync", "1"]) == 1
    said = capsys.readouterr().err
    assert "lessons/01_twice.md and notebooks/01_twice.ipynb both changed" in said
    for words in ("cell 14", "## Snare", "## Pitfall", "--from text", "--from notebook"):
        assert words in said
    assert contents(lesson.root) == before


@pytest.mark.parametrize(("winner", "kept"), [("text", "## Snare"), ("notebook", "## Pitfall")])
def test_a_conflict_is_settled_by_naming_the_winner(winner, kept, lesson):
    replace(lesson.text, "## Trap", "## Snare")
    with edited(lesson) as notebook:
        cell_of(notebook, "## Trap").source = "## Pitfall"
    assert tool.main(["--root", str(lesson.root), "sync", "twice", "--from", winner]) == 0
    assert kept in lesson.text.read_text("utf-8")
    assert not list(pipeline_checks.twins_are_equal(lesson.root))


@pytest.mark.parametrize("twin", ["text", "notebook"])
def test_a_missing_twin_is_made_from_the_other(twin, lesson):
    before = form.cells(form.read_text(lesson))
    getattr(lesson, twin).unlink()
    assert twins.sync(lesson) == f"01_twice: {twin} made from the {lesson_other(twin)}"
    assert form.cells(form.read_text(lesson)) == form.cells(form.read_notebook(lesson)) == before


def lesson_other(twin):
    return {"text": "notebook", "notebook": "text"}[twin]


@pytest.mark.parametrize("twin", ["text", "notebook"])
def test_without_the_remembered_state_git_tells_which_twin_was_edited(twin, lesson):
    git = [
        "git",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.org",
        "-C",
        str(lesson.root),
    ]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    edit_one(lesson, twin)
    assert "only it changed since the last commit" in twins.sync(lesson)
    assert "## Snare" in lesson.text.read_text("utf-8")
    assert not list(pipeline_checks.twins_are_equal(lesson.root))


@pytest.mark.parametrize("twin", ["text", "notebook"])
def test_without_state_and_git_the_newer_twin_wins_and_sync_says_so(twin, lesson, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(lesson.root.parent))
    edit_one(lesson, twin)
    later = time.time() + 5
    os.utime(getattr(lesson, twin), (later, later))
    assert "the newer file" in twins.sync(lesson)
    assert "## Snare" in lesson.text.read_text("utf-8")


def edit_one(lesson, twin):
    """Edit one twin, and have the notebook forget when both were equal."""
    with edited(lesson) as notebook:
        del notebook.metadata["lesson"]
        if twin == "notebook":
            cell_of(notebook, "## Trap").source = "## Snare"
    if twin == "text":
        replace(lesson.text, "## Trap", "## Snare")


def test_a_cell_that_no_text_can_hold_is_refused(lesson):
    with edited(lesson) as notebook:
        cell_of(notebook, "## Trap").source += "\n\n+++\n\nanother"
    before = contents(lesson.root)
    with pytest.raises(
        CourseError, match=r"cell 14 of notebooks/01_twice\.ipynb cannot be written"
    ):
        twins.sync(lesson)
    assert contents(lesson.root) == before


def test_a_text_that_is_no_notebook_is_refused(lesson, capsys):
    replace(lesson.text, '{"tags": ["part-trap"]}', '{"tags": ["part-trap"')
    before = contents(lesson.root)
    assert tool.main(["--root", str(lesson.root), "sync"]) == 1
    assert "lessons/01_twice.md cannot be read as a notebook" in capsys.readouterr().err
    assert contents(lesson.root) == before


def test_a_write_that_fails_leaves_the_file_whole(lesson, monkeypatch):
    replace(lesson.text, "## Trap", "## Snare")
    before = contents(lesson.root)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        twins.sync(lesson)
    assert contents(lesson.root) == before


def test_equal_twins_are_not_touched(root):
    before = contents(root)
    assert tool.main(["--root", str(root), "sync"]) == 0
    assert contents(root) == before


def test_sync_puts_the_kernel_of_everyone_back(lesson):
    before = lesson.notebook.read_bytes()
    metadata(kernelspec=KERNEL)(lesson)
    assert twins.sync(lesson) == ""
    assert lesson.notebook.read_bytes() == before


# --- new, run, record, clean ------------------------------------------------------------------


def test_a_new_lesson_is_a_draft_with_all_parts_and_equal_twins(root):
    assert tool.main(["--root", str(root), "new", "3", "later", "--title", "What is thrice?"]) == 0
    notebook = form.read_notebook(Lesson("03_later", root))
    assert form.is_draft(notebook)
    assert form.title(notebook) == "What is thrice?"
    assert {part for _, part, _ in form.parts(notebook)} == set(form.PARTS)
    assert "*and thrice?*" in notebook.cells[1].source
    unrun = {
        pipeline_checks.outputs_come_from_these_sources,
        pipeline_checks.compared_cells_are_stored,
    }
    assert not [one for check in checks.CHECKS if check not in unrun for one in check(root)]
    assert tool.main(["--root", str(root), "new", "3", "again"]) == 1
    assert tool.main(["--root", str(root), "new", "4", "b"]) == 0


def test_running_twice_changes_no_byte(lesson):
    before = contents(lesson.root)
    timing = running.run(lesson)
    assert contents(lesson.root) == before
    assert len(timing.cells) == 9
    assert "cell 13: lab.show" in str(running.Timing(1.0, timing.cells[4:7]))


def test_a_failing_cell_is_shown_and_the_notebook_left(lesson, monkeypatch, capsys, tmp_path):
    bad = tmp_path / "kernels" / "python3" / "kernel.json"
    form.write(bad, json.dumps({"argv": ["/nowhere"], "display_name": "mine", "language": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("COMPANION_RECORD", "1")
    code = "import os, sys\nassert 0, (os.environ.get('COMPANION_{}'), sys.executable)"
    with edited(lesson) as notebook:
        cell_of(notebook, "print(").source = code.format("SCALE")
    twins.sync(lesson)
    before = contents(lesson.root)
    assert tool.main(["--root", str(lesson.root), "run", "1", "--scale", "ci", "--write"]) == 1
    said = capsys.readouterr().err
    assert "AssertionError" in said
    assert f"('ci', '{sys.executable}')" in said  # this Python's kernel, not the user's `python3`
    assert "01_twice: cell 9 failed" in said
    assert contents(lesson.root) == before


def test_recording_runs_in_its_mode_and_writes_no_notebook(lesson, capsys):
    code = "import os\nassert os.environ['COMPANION_RECORD'] == '1'\nopen('ran', 'w').close()"
    with edited(lesson) as notebook:
        notebook.cells = [cell_of(notebook, "print(")]
        notebook.cells[0].source = code
    twins.sync(lesson)
    before = lesson.notebook.read_bytes()
    assert tool.main(["--root", str(lesson.root), "record", "1"]) == 0
    assert lesson.notebook.read_bytes() == before
    assert (lesson.root / "notebooks" / "ran").exists()  # run beside the notebooks
    assert "lessons.py run 01" in capsys.readouterr().out


def test_only_what_changed_is_run_again(root, monkeypatch):
    ran = []
    timing = running.Timing(0.0, [])
    monkeypatch.setattr(running, "run", lambda lesson, *_, **__: ran.append(lesson.stem) or timing)
    lesson = Lesson("02_half", root)
    assert tool.main(["--root", str(root), "run", "--changed"]) == 0
    assert ran == []
    source("## So?", "is", "was")(lesson)  # prose
    tool.main(["--root", str(root), "run", "--changed"])
    assert ran == []
    source("assert", "0", "0.0")(lesson)
    tool.main(["--root", str(root), "run", "--changed"])
    assert ran == ["02_half"]


def test_only_the_stored_scale_is_written_unless_asked(lesson, monkeypatch):
    monkeypatch.setattr(running, "execute", lambda *_, **__: running.Timing(0.0, []))
    source("assert", "0", "0.0")(lesson)
    for scale, store, written in [("ci", None, False), ("ci", True, True), ("laptop", None, True)]:
        with edited(lesson) as notebook:
            notebook.metadata.lesson.ran = "other"
        running.run(lesson, scale, store=store)
        assert (not running.is_stale(lesson)) is written


def test_cleaning_keeps_what_a_reader_sees_without_a_kernel(lesson):
    bar = {running.WIDGET: {"model_id": "2"}, "text/plain": "100%|####| 9/9 [00:00<00:00]"}
    form_ = {**WIDGET, "text/html": "<p>Your guess?</p>"}
    states = "\r  0%|     | 0/9 [00:00<?, ?it/s]\r100%|##| 9/9 [00:01<00:00,  9it/s]\n"
    outputs = [
        shown(WIDGET),
        shown(form_),
        shown({**WIDGET, **PIXEL}, needs_background="light"),
        shown(bar),
        shown({**bar, "text/html": "<p>bar</p>"}),
        shown({"text/plain": "3"}),
        printed(states, "stderr"),
        printed(f"careful\n{states}", "stderr"),
        printed("50% of it\n"),
    ]
    output("assert", *outputs)(lesson)
    with edited(lesson) as notebook:
        cell_of(notebook, "assert").metadata.execution = {"iopub.status.busy": "now"}
        notebook.metadata.widgets = {"state": {}}
        notebook.metadata.language_info.version = "3.11.7"
    cleaned = running.clean(form.read_notebook(lesson))
    again = running.clean(deepcopy(cleaned))
    assert again == cleaned
    seen = cell_of(cleaned, "assert")
    assert [one.get("data") or one.text for one in seen.outputs] == [
        {"text/html": "<p>Your guess?</p>", "text/plain": "HBox()"},
        PIXEL,
        {"text/plain": "3"},
        "careful\n",
        "50% of it\n",
    ]
    assert "execution" not in seen.metadata
    assert "widgets" not in cleaned.metadata
    assert "version" not in cleaned.metadata.language_info
    assert cleaned.metadata.lesson == form.read_notebook(lesson).metadata.lesson
    assert [cell.id for cell in cleaned.cells] == [
        cell.id for cell in form.read_notebook(lesson).cells
    ]


# --- export -----------------------------------------------------------------------------------


def test_an_exported_module_reads_as_written_by_hand(made):
    assert (made / "companion" / "half.py").read_text("utf-8") == (
        '"""Numbers, half."""\n\n'
        "# Exported from lessons/02_half.md: edit that, then run `make lessons`.\n\n"
        '__all__ = ["half"]\n\n'
        f"{HALF}\n"
    )


def test_a_lesson_can_export_several_modules(lesson):
    with edited(lesson) as notebook:
        cell = deepcopy(cell_of(notebook, "def twice"))
        cell.id = "four"
        cell.source = (
            '#| export four\n"""Fours.\n\nTwice twice."""\nfrom companion.twice import twice\n\n'
            "def quadruple(x):\n    return twice(twice(x))\n_hidden = 4\n\n\n\n"
            "def fourfold(x):\n    return quadruple(x)"
        )
        notebook.cells.insert(11, cell)
    assert exporting.export(lesson.root) == ["companion/four.py written from lessons/01_twice.md"]
    assert (lesson.root / "companion" / "four.py").read_text("utf-8") == (
        '"""Fours.\n\nTwice twice."""\n\n'
        "# Exported from lessons/01_twice.md: edit that, then run `make lessons`.\n\n"
        '__all__ = ["fourfold", "quadruple"]\n\n'
        "from companion.twice import twice\n\n\n"
        "def quadruple(x):\n    return twice(twice(x))\n\n\n_hidden = 4\n\n\n"
        "def fourfold(x):\n    return quadruple(x)\n"
    )
    assert not list(pipeline_checks.modules_read_as_written_by_hand(lesson.root))


def test_an_unused_import_is_exported_as_it_is_and_refused(lesson, capsys):
    source("def twice", "export\n", "export\nimport os\n")(lesson)
    assert tool.main(["--root", str(lesson.root), "export"]) == 1
    assert "`os` imported but unused (exported from lessons/01_twice.md)" in capsys.readouterr().err
    assert "import os" in (lesson.root / "companion" / "twice.py").read_text("utf-8")


def test_exporting_twice_writes_nothing(root):
    before = contents(root)
    assert exporting.export(root) == []
    assert contents(root) == before


def test_a_stale_module_is_deleted_and_a_hand_written_one_kept(lesson):
    form.write(lesson.root / "companion" / "old.py", f'"""Old."""\n\n{EXPORTED}')
    form.write(lesson.root / "companion" / "mine.py", '"""Mine."""\n')
    said = exporting.export(lesson.root)
    assert said == ["companion/old.py deleted: lessons/01_twice.md exports it no more"]
    assert (lesson.root / "companion" / "mine.py").exists()


@pytest.mark.parametrize("name", ["assets", "lab"])
def test_what_is_written_by_hand_is_not_overwritten(name, lesson):
    source("#| default_exp", "twice", name)(lesson)
    before = contents(lesson.root)
    with pytest.raises(CourseError, match=f"companion/{name} is written by hand"):
        exporting.export(lesson.root)
    assert contents(lesson.root) == before


# --- map --------------------------------------------------------------------------------------


def test_the_map_lists_lessons_and_says_what_is_to_come(made):
    assert (made / "README.md").read_text("utf-8") == (
        "# Course\n\n<!-- lessons -->\n\n### I · Numbers\n\n"
        "| Lesson | The journal asks | Minutes |\n|---|---|---|\n"
        "| [01 · What is twice?](notebooks/01_twice.ipynb) | *what is twice two?* | 25 |\n"
        "| [02 · What is half?](notebooks/02_half.ipynb) | *is half ... enough?* | 25 |\n"
        "| 03&nbsp;·&nbsp;to&nbsp;come | *and thrice?* |  |\n\n<!-- /lessons -->\n"
    )
    front_page = form.read_notebook(Lesson("00_start_here", made))
    assert "[01 · What is twice?](01_twice.ipynb)" in front_page.cells[1].source


def test_a_readme_without_marks_is_left_alone(root):
    (root / "README.md").write_text("# Course\n", "utf-8")
    assert tool.main(["--root", str(root), "map"]) == 0
    assert (root / "README.md").read_text("utf-8") == "# Course\n"


def test_a_draft_is_to_come(lesson):
    replace(lesson.text, '["part-head"]', '["part-head", "draft"]')
    assert tool.main(["--root", str(lesson.root), "map"]) == 0
    assert "| 01&nbsp;·&nbsp;to&nbsp;come |" in (lesson.root / "README.md").read_text("utf-8")
