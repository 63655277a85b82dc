"""The course as it is opened in JupyterLab, before anything is run."""

import io
import re

from course import twins
from course.form import FOLDED, FRONT_PAGE, Lesson, cells, read_notebook, read_text, tags
from PIL import Image
from playwright.sync_api import expect

PREDICTION = "Write down your guess"


def test_front_page_leads_to_the_first_lesson(lab, lesson):
    lab.page.goto(lab.front_door)
    assert f"notebooks/{FRONT_PAGE}.ipynb" in lab.front_door
    link = lab.page.locator(".jp-RenderedMarkdown table a", has_text=f"{lesson.number:02}")
    link.click()

    tab = lab.page.locator(".lm-DockPanel-tabBar .lm-mod-current")
    expect(tab).to_have_text(lesson.notebook.name)
    expect(lab.cells.first).to_contain_text(f"{lesson.number:02} · ")


def test_stored_outputs_can_be_read_before_anything_is_run(lab, lesson):
    stored = read_notebook(lesson)
    bundles = [
        output.get("data", {})
        for cell in stored.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    html = "".join(bundle.get("text/html", "") for bundle in bundles)
    questions = next(b["text/plain"] for b in bundles if PREDICTION in b.get("text/html", ""))
    lab.open(f"notebooks/{lesson.notebook.name}")
    pictures = lab.outputs.locator("img")

    expect(pictures).to_have_count(html.count("<img "))
    widths = "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))"
    assert all(width > 0 for width in pictures.evaluate_all(widths))
    assert all(pictures.evaluate_all("images => images.map(i => i.alt.trim())"))
    asked = lab.outputs.filter(has_text=PREDICTION)
    for question in questions.splitlines():
        expect(asked).to_contain_text(question.removeprefix("- "))
    expect(
        lab.outputs.filter(has_text=re.compile("(Loading|Error displaying) widget"))
    ).to_have_count(0)


def test_pictures_keep_their_light_card_in_a_dark_lab(lab, lesson):
    lab.open(f"notebooks/{lesson.notebook.name}")
    lab.menu("Settings", "Theme", "JupyterLab Dark")
    try:
        expect(lab.page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
        for picture in lab.outputs.locator("img").all():
            seen = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
            for corner in ((4, 4), (-4, 4), (4, -4), (-4, -4)):
                x, y = (place % size for place, size in zip(corner, seen.size))
                assert min(seen.getpixel((x, y))) > 240
    finally:
        lab.menu("Settings", "Theme", "JupyterLab Light")
        expect(lab.page.locator("body")).to_have_attribute("data-jp-theme-light", "true")


def test_solution_and_hints_open_when_asked(lab, lesson):
    lab.open(f"notebooks/{lesson.notebook.name}")
    hints = lab.page.locator(".jp-RenderedMarkdown details")
    assert hints.count()
    for hint in hints.all():
        expect(hint).not_to_have_attribute("open", "")
        hint.locator("summary").click()
        expect(hint).to_have_attribute("open", "")

    places = [n for n, cell in enumerate(read_notebook(lesson).cells) if FOLDED in tags(cell)]
    assert places
    for solution in map(lab.cells.nth, places):
        expect(solution.locator(".cm-content")).to_be_hidden()
        lab.shot("folded")
        solution.locator(".jp-InputPlaceholder").click()
        expect(solution.locator(".cm-content")).to_be_visible()
    lab.shot("unfolded")


def test_text_of_a_lesson_opens_as_a_notebook(lab, lesson):
    lab.page.goto(lab.front_door.replace(f"notebooks/{FRONT_PAGE}.ipynb", "lessons"))
    lab.page.locator(".jp-DirListing-item", has_text=lesson.text.name).dblclick()

    expect(lab.cells).to_have_count(len(read_text(lesson).cells))


def test_saving_either_twin_writes_both(lab, course):
    page = Lesson(FRONT_PAGE, course)
    place = next(n for n, cell in enumerate(read_notebook(page).cells) if cell.cell_type == "code")
    for path in (f"notebooks/{page.notebook.name}", f"lessons/{page.text.name}"):
        lab.open(path)
        lab.type(place, f"\n# typed in {path}", over="Control+End")
        lab.save(f"notebooks/{page.notebook.name}")

        assert f"# typed in {path}" in page.text.read_text()
        assert cells(read_text(page)) == cells(read_notebook(page))
        assert twins.sync(page) == ""
