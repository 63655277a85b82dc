"""The course as it stands: every check of tools/course/checks.py, and no lesson lost."""

import json

import pytest
from course.checks import CHECKS
from course.form import COMPARED, ROOT, stored, tags

MINIMUM_NOTEBOOKS = 3  # a notebook that is lost leaves every other test green
MINIMUM_COMPARED_CELLS = 30


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_course(check):
    problems = list(check(ROOT))
    assert not problems, "\n".join(map(str, problems))


def test_no_notebook_got_lost():
    assert len(list(stored(ROOT))) >= MINIMUM_NOTEBOOKS


def test_enough_outputs_are_compared():
    compared = [
        cell for _, notebook in stored(ROOT) for cell in notebook.cells if COMPARED in tags(cell)
    ]
    assert len(compared) >= MINIMUM_COMPARED_CELLS


def test_every_recorded_run_is_shown_by_its_lesson():
    for path in sorted((ROOT / "lessons" / "runs").glob("*.json")):
        experiment = json.loads(path.read_text())["experiment"]
        lesson = path.stem.removesuffix(f"_{experiment}")
        text = (ROOT / "lessons" / f"{lesson}.md").read_text(encoding="utf-8")
        shown = (f"def {experiment}(", f"lab.recorded( lab.{experiment},")
        assert any(way in " ".join(text.split()) for way in shown), f"{path.name} is shown nowhere"
