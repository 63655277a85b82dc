"""A lesson that is worked through in JupyterLab: answered, run, played with, solved."""

import pytest
from course.form import FOLDED, parts, read_notebook, tags
from playwright.sync_api import expect

from companion.lab import check

ERROR_KINDS = ("application/vnd.jupyter.stderr", "application/vnd.jupyter.error")


def test_every_cell_runs_and_none_complains(run, lesson):
    before = read_notebook(lesson)
    after = run.save(f"notebooks/{lesson.notebook.name}")
    code = [cell for cell in after.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    outputs = [output for cell in code for output in cell.outputs]

    assert None not in counts
    assert counts == sorted(counts)
    assert counts[0] > 1  # this run's, behind the cells run for the questions; not the stored ones
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    for kind in ERROR_KINDS:
        expect(run.page.locator(f'.jp-RenderedText[data-mime-type="{kind}"]')).to_have_count(0)
    expect(run.page.get_by_text("Error displaying widget")).to_have_count(0)
    assert [cell.source for cell in after.cells] == [cell.source for cell in before.cells]


def test_guesses_come_back_beside_the_measurements(run):
    assert run.said
    for guess in run.said:
        expect(run.outputs.filter(has_text=f"you said {guess}").first).to_be_visible()


def test_slider_redraws_its_one_picture(run):
    handle = run.page.locator(".noUi-handle")
    if handle.count() == 0:
        pytest.skip("this lesson has no slider")
    picture = run.outputs.filter(has=handle.first).locator("img")
    before = picture.get_attribute("src")

    handle.first.focus()
    run.page.keyboard.press("ArrowRight")

    expect(picture).not_to_have_attribute("src", before)
    expect(picture).to_have_count(1)
    assert picture.get_attribute("alt")
    picture.scroll_into_view_if_needed()
    run.shot("slider")


def test_exercise_answers_a_mistake_by_its_name_and_a_solution_by_right(run, lesson):
    exercise = [
        (place - 1, cell)
        for place, part, cell in parts(read_notebook(lesson))
        if part == "part-exercise" and cell.cell_type == "code" and "check." in cell.source
    ]
    stub = next(place for place, cell in exercise if FOLDED not in tags(cell))
    solution = next(cell.source for _, cell in exercise if FOLDED in tags(cell))
    name = solution.rpartition("check.")[2].partition("(")[0]
    mistake = getattr(check, name).mistakes[0]
    wrong = f"def wrong(*args): return check.{name}.mistakes[0].answer(*args)\n\n\n"
    verdict = run.cells.nth(stub).locator(".jp-OutputArea-output")

    run.type(stub, f"{wrong}check.{name}(wrong)")
    run.page.keyboard.press("Control+Enter")
    expect(verdict).to_contain_text(f"{mistake.name}: {mistake.hint}")
    run.shot("hint")

    run.type(stub, solution)
    run.page.keyboard.press("Control+Enter")
    expect(verdict).to_contain_text("right, on")
