"""The course in a real JupyterLab, in a real browser, started by the reader's own `make lab`.

COMPANION_SHOTS=folder keeps the pictures that the tests take on their way.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from course.form import FRONT_PAGE, ROOT, Lesson, is_draft, parse_notebook, read_notebook, stored
from nbformat import NotebookNode
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOKEN = "first-questions"
SECONDS = 1000  # in milliseconds, as Playwright counts
READY = [
    lesson
    for lesson, notebook in stored(ROOT)
    if lesson.stem != FRONT_PAGE and not is_draft(notebook)
]


@pytest.fixture(scope="package")
def course(tmp_path_factory) -> Path:
    """A copy of what `make lab` needs, to be edited at will; the installed package is ours."""
    copy = tmp_path_factory.mktemp("course")
    for folder in ("lessons", "notebooks", "tools"):
        shutil.copytree(ROOT / folder, copy / folder)
    for file in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    (copy / "ready").touch()  # for the Makefile: the environment is made already
    return copy


@pytest.fixture(scope="package")
def front_door(course) -> Iterator[str]:
    """Run `make lab`, with settings of its own; the address that it opens in the browser."""
    own = course / ".jupyter"
    settings = own / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    shutil.copy(course / "tools" / "overrides.json", settings)  # where make installs, it is shared
    environment = os.environ | {
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_CONFIG_DIR": str(own),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
    }
    flags = f"--IdentityProvider.token={TOKEN} --ServerApp.browser='echo opens: %s'"
    binaries = Path(sys.executable).parent
    command = ["make", "lab", f"BIN={binaries}", "READY=ready", f"LAB_FLAGS={flags}"]
    log = course / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=course, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield _opened(server, log)
    finally:
        server.terminate()
        server.wait(timeout=60)
        print(log.read_text()[-3000:])


def _opened(server: subprocess.Popen, log: Path) -> str:
    """The address that the server sends a browser to, by a file, as soon as it does."""
    for _ in range(600):
        if found := re.search(r"^opens: file://(\S+)", log.read_text(), re.M):
            return re.search(r'url=([^"]+)"', Path(found[1]).read_text())[1]
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"`make lab` did not open a page:\n{log.read_text()}")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; of this package only, since its event loop would be in later tests' way."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUMS)} is on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Lab:
    """One page of JupyterLab, and what a reader does with it."""

    page: Page
    front_door: str
    course: Path
    said: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a file of the course as the only one; its kernel is ready when this returns."""
        address = self.front_door.split("/lab/")[0]
        self.page.goto(f"{address}/lab/tree/{path}?token={TOKEN}&reset")
        self.page.locator(".jp-Notebook:visible .jp-CodeCell").first.wait_for()
        self.until_idle()

    def until_idle(self) -> None:
        """Before that, Run All brings up a dialog that asks for a kernel."""
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

    def menu(self, *names: str) -> None:
        for name in names:
            label = self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel")
            label.filter(has_text=re.compile(f"^{name}$")).click()

    @property
    def cells(self) -> Locator:
        return self.page.locator(".jp-Notebook:visible .jp-Cell")

    @property
    def outputs(self) -> Locator:
        return self.page.locator(".jp-Notebook:visible .jp-OutputArea-output")

    def until_run(self) -> None:
        """Wait until no cell has the star of one that runs or waits to."""
        starred = self.page.locator(".jp-InputPrompt", has_text="[*]")
        starred.first.wait_for()
        expect(starred).to_have_count(0, timeout=180 * SECONDS)

    def type(self, place: int, text: str, over: str = "Control+A") -> None:
        """Type into the editor of a cell, over all of it or from the key that is pressed first."""
        self.cells.nth(place).locator(".cm-content").click()
        self.page.keyboard.press(over)
        self.page.keyboard.insert_text(text)

    def save(self, path: str) -> NotebookNode:
        """Press Ctrl-S, and read the notebook that this has written."""
        file = self.course / path
        before = file.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        for _ in range(100):
            if file.stat().st_mtime_ns != before:
                break
            self.page.wait_for_timeout(0.2 * SECONDS)
        self.page.wait_for_timeout(0.5 * SECONDS)  # its twin is written right behind it
        return parse_notebook(file.read_text(), file.name)

    def shot(self, name: str) -> None:
        if folder := os.environ.get("COMPANION_SHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@contextmanager
def _lab(browser: Browser, front_door: str, course: Path) -> Iterator[Lab]:
    """A page that may ask nothing of other machines, and whose kernels end with it."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(60 * SECONDS)
    expect.set_options(timeout=60 * SECONDS)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    yield Lab(page, front_door, course)
    address = front_door.split("/lab/")[0]
    api, key = f"{address}/api/sessions", {"Authorization": f"token {TOKEN}"}
    for session in page.request.get(api, headers=key).json():
        page.request.delete(f"{api}/{session['id']}", headers=key)
    page.close()
    local = (f"{address}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []


@pytest.fixture
def lab(browser, front_door, course) -> Iterator[Lab]:
    with _lab(browser, front_door, course) as lab:
        yield lab


@pytest.fixture(scope="module", params=READY, ids=lambda lesson: lesson.stem)
def lesson(request, course) -> Lesson:
    """Each lesson that is no draft, as it lies in the copy."""
    return Lesson(request.param.stem, course)


@pytest.fixture(scope="module")
def run(browser, front_door, course, lesson) -> Iterator[Lab]:
    """A lesson worked as a reader does: the questions answered, then every cell run."""
    cells = read_notebook(lesson).cells
    asking = next(n for n, cell in enumerate(cells) if "lab.predict(" in cell.source)
    with _lab(browser, front_door, course) as lab:
        lab.open(f"notebooks/{lesson.notebook.name}")
        lab.cells.nth(asking).locator(".cm-content").click()
        lab.menu("Run", "Run All Above Selected Cell")
        lab.page.keyboard.press("Shift+Enter")
        lab.until_run()
        boxes = lab.cells.nth(asking).locator(".jp-OutputArea-output input[type=text]")
        choices = lab.cells.nth(asking).locator(".widget-radio-box")
        for number in range(boxes.count()):
            lab.said.append(f"guess {number}")
            boxes.nth(number).fill(lab.said[-1])
        for number in range(choices.count()):
            option = choices.nth(number).locator("label").last
            lab.said.append(option.inner_text())
            option.click()
        lab.menu("Run", "Run All Cells")
        lab.until_run()
        yield lab
