"""The course as it is opened in JupyterLab, before anything is run."""

import io
import re

from course import twins
from course.form import FOLDED, FRONT_PAGE, Lesson, cells, read_notebook, read_text, tags
from PIL import Image
from playwright.sync_api import Locator, expect

ASKED = "Write down your guess"


def stored_html(lesson: Lesson) -> dict[str, str]:
    """The stored outputs that are HTML, each with its plain form."""
    code = [cell for cell in read_notebook(lesson).cells if cell.cell_type == "code"]
    bundles = [output.get("data", {}) for cell in code for output in cell.outputs]
    return {data["text/html"]: data["text/plain"] for data in bundles if "text/html" in data}


def stored_pictures(opened, lesson: Lesson) -> Locator:
    """Wait for as many pictures as are stored."""
    pictures = opened.outputs.locator("img")
    expect(pictures).to_have_count("".join(stored_html(lesson)).count("<img "))
    return pictures


def test_front_page_leads_to_each_lesson(lab, lesson):
    assert lab.front_door.startswith(f"{lab.address}/lab/tree/notebooks/{FRONT_PAGE}.ipynb")
    lab.page.goto(f"{lab.front_door}&reset")
    link = lab.page.locator(".jp-RenderedMarkdown table a", has_text=f"{lesson.number:02} · ")
    lab.shot(FRONT_PAGE, link)
    link.click()

    tab = lab.page.locator(".lm-DockPanel-tabBar .lm-mod-current")
    expect(tab).to_have_text(lesson.notebook.name)
    expect(lab.cells.first).to_contain_text(f"{lesson.number:02} · ")


def test_stored_outputs_can_be_read_before_anything_is_run(opened, lesson):
    questions = [plain for html, plain in stored_html(lesson).items() if ASKED in html]
    pictures = stored_pictures(opened, lesson)

    assert questions
    alts = pictures.evaluate_all("images => images.map(image => image.alt)")
    assert all(len(alt.split()) > 3 for alt in alts), alts  # one that has none, Lab calls "Image"
    pictures.evaluate_all("images => Promise.all(images.map(image => image.decode()))")
    opened.shot(lesson.stem, pictures.first)
    for question in "\n".join(questions).splitlines():
        asked = opened.outputs.filter(has_text=ASKED).filter(has_text=question.removeprefix("- "))
        expect(asked).to_have_count(1)
    lost = re.compile("(Loading|Error displaying) widget")
    expect(opened.outputs.filter(has_text=lost)).to_have_count(0)


def test_pictures_keep_their_light_card_in_a_dark_lab(opened, lesson):
    pictures = stored_pictures(opened, lesson)
    opened.menu("Settings", "Theme", "JupyterLab Dark")
    try:
        expect(opened.page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
        for picture in pictures.all():
            opened.shot(f"{lesson.stem}_dark", picture)
            seen = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
            for corner in ((4, 4), (-4, 4), (4, -4), (-4, -4)):
                pixel = tuple(place % size for place, size in zip(corner, seen.size))
                assert min(seen.getpixel(pixel)) > 240
    finally:
        opened.menu("Settings", "Theme", "JupyterLab Light")
        expect(opened.page.locator("body")).to_have_attribute("data-jp-theme-light", "true")


def test_hints_and_solution_open_when_asked(opened, lesson):
    stored = read_notebook(lesson).cells
    hints = opened.page.locator(".jp-RenderedMarkdown details")
    expect(hints).to_have_count(sum(cell.source.count("<details>") for cell in stored))
    for hint in hints.all():
        expect(hint).not_to_have_attribute("open", "")
        hint.locator("summary").click()
        expect(hint).to_have_attribute("open", "")

    folded = [n for n, cell in enumerate(stored) if FOLDED in tags(cell)]
    assert folded
    for solution in map(opened.cells.nth, folded):
        expect(solution.locator(".cm-content")).to_be_hidden()
        opened.shot(f"{lesson.stem}_folded", solution)
        solution.locator(".jp-InputPlaceholder").click()
        expect(solution.locator(".cm-content")).to_be_visible()


def test_text_of_a_lesson_opens_as_a_notebook(lab, lesson):
    folder = lab.front_door.replace(f"notebooks/{FRONT_PAGE}.ipynb", "lessons")
    lab.page.goto(f"{folder}&reset")
    lab.page.locator(".jp-DirListing-item", has_text=lesson.text.name).dblclick()

    expect(lab.cells).to_have_count(len(read_text(lesson).cells))


def test_saving_either_twin_writes_both(lab, course):
    page = Lesson(FRONT_PAGE, course)
    code = [n for n, cell in enumerate(read_notebook(page).cells) if cell.cell_type == "code"]
    for path in (f"notebooks/{page.notebook.name}", f"lessons/{page.text.name}"):
        lab.open(path)
        lab.type(code[0], f"\n# typed in {path}", first="Control+End")
        lab.save(f"notebooks/{page.notebook.name}")

        assert f"# typed in {path}" in page.text.read_text("utf-8")
        assert cells(read_text(page)) == cells(read_notebook(page))
        assert twins.sync(page) == ""
