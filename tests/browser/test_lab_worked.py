"""A lesson that is worked through in JupyterLab: answered, run, played with, solved, saved."""

import re

import pytest
from course.form import FOLDED, read_notebook, tags
from playwright.sync_api import expect

from companion.lab import check

CHECKED = re.compile(r"^check\.(\w+)\(", re.MULTILINE)  # a cell that hands in an answer


def test_every_cell_runs_and_none_complains(worked, lesson):
    code = [cell for cell in read_notebook(lesson).cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    outputs = [output for cell in code for output in cell.outputs]

    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    assert None not in counts
    assert counts[0] > 1  # this run's, after the cells run for the questions; not the stored ones
    assert counts == sorted(counts)
    for kind in ("stderr", "error"):
        seen = worked.page.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]')
        expect(seen).to_have_count(0)
    expect(worked.page.get_by_text("Error displaying widget")).to_have_count(0)


def test_guesses_come_back_beside_the_measurements(worked, lesson):
    assert worked.said
    for guess in worked.said:
        said = worked.outputs.filter(has_text=f"you said {guess}").first
        expect(said).to_be_visible()
        worked.shot(f"{lesson.stem}_guesses", said)


def test_slider_redraws_its_one_picture(worked, lesson):
    handles = worked.page.locator(".noUi-handle")
    if handles.count() == 0:
        pytest.skip("this lesson has no slider")
    shown = worked.outputs.filter(has=handles.first)
    picture = shown.locator("img")
    handles.first.focus()
    now, end = (handles.first.get_attribute(f"aria-value{which}") for which in ("now", "max"))
    away = "ArrowLeft" if float(now) == float(end) else "ArrowRight"

    if picture.count() == 0:  # tokens are drawn as text
        drawn = shown.locator(".widget-html-content").last
        before = drawn.inner_text()
        worked.page.keyboard.press(away)
        expect(drawn).not_to_have_text(before)
        worked.shot(f"{lesson.stem}_slider", drawn)
        return
    before = picture.get_attribute("src")
    worked.page.keyboard.press(away)
    expect(picture).not_to_have_attribute("src", before)
    expect(picture).to_have_count(1)
    assert len(picture.get_attribute("alt").split()) > 3
    worked.shot(f"{lesson.stem}_slider", picture)


def test_exercises_name_every_mistake_and_know_the_solution(worked, lesson):
    cells = read_notebook(lesson).cells
    folded = [cell.source for cell in cells if FOLDED in tags(cell)]
    solutions = [source for source in folded if CHECKED.search(source)]
    assert solutions
    for solution in solutions:
        name = CHECKED.findall(solution)[-1]
        stub = next(n for n, cell in enumerate(cells) if f"check.{name}(" in cell.source)
        said = worked.cells.nth(stub).locator(".jp-OutputArea-output")
        verdict = said.first  # a solution may print more after it

        for number, mistake in enumerate(getattr(check, name).mistakes):
            worked.type(stub, f"check.{name}(check.{name}.mistakes[{number}].answer)")
            worked.page.keyboard.press("Control+Enter")
            expect(verdict).to_contain_text(f"{mistake.name}: {mistake.hint}")
            if number == 0:
                worked.shot(f"{lesson.stem}_{name}_hint", verdict)

        worked.type(stub, solution)
        worked.page.keyboard.press("Control+Enter")
        expect(verdict).to_contain_text("right, on")


def test_nothing_is_lost_when_it_is_saved_and_opened_again(worked, lesson):
    worked.save(f"notebooks/{lesson.notebook.name}")
    worked.end_kernels()
    worked.page.goto("about:blank")

    worked.open(f"notebooks/{lesson.notebook.name}")
    worked.page.wait_for_timeout(2000)  # a widget that is lost says so a moment later
    expect(worked.outputs.filter(has_text="Error displaying widget")).to_have_count(0)
