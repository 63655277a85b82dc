"""The course in a real JupyterLab, in a real browser, started by the reader's own `make lab`.

COMPANION_SHOTS=folder keeps pictures of what the tests see.
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
from playwright.sync_api import Browser, Locator, Page, Response, expect, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
TOKEN = "first-questions"
SECONDS = 1000  # in Playwright's milliseconds
WRITTEN = [
    lesson
    for lesson, notebook in stored(ROOT)
    if lesson.stem != FRONT_PAGE and not is_draft(notebook)
]


@pytest.fixture(scope="package")
def course(tmp_path_factory) -> Path:
    """A copy of what `make lab` needs, to be edited at will; `companion` is the installed one."""
    copy = tmp_path_factory.mktemp("course")
    for folder in ("lessons", "notebooks", "tools"):
        shutil.copytree(ROOT / folder, copy / folder)
    for file in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    (copy / "ready").touch()  # tells make that its environment is there
    return copy


@pytest.fixture(scope="package")
def front_door(course) -> Iterator[str]:
    """Run `make lab` with a home of its own; the address that it opens in a browser."""
    home = course / ".jupyter"
    settings = home / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    shutil.copy(course / "tools" / "overrides.json", settings)  # make puts it into .venv, not ours
    environment = os.environ | {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "OMP_NUM_THREADS": "1",  # two threads wait for each other wherever others use the cores
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
    """Where the server sends a browser to, by way of a file, as soon as it does."""
    for _ in range(600):
        if found := re.search(r"^opens: file://(\S+)", log.read_text(), re.M):
            return re.search(r'url=([^"]+)"', Path(found[1]).read_text())[1]
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"`make lab` opened no page:\n{log.read_text()}")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, for this folder only: its event loop would be in the way of later tests."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUMS)} is on the PATH")
    expect.set_options(timeout=60 * SECONDS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield chromium
        chromium.close()


@dataclass
class Lab:
    """One page of JupyterLab, and what a reader does with it. Cells count from 0."""

    page: Page
    front_door: str
    course: Path
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.front_door.partition("/lab")[0]

    @property
    def cells(self) -> Locator:
        return self.page.locator(".jp-Notebook:visible .jp-Cell")

    @property
    def outputs(self) -> Locator:
        return self.cells.locator(".jp-OutputArea-output")

    def open(self, path: str) -> None:
        """Open a file of the course, and nothing else; wait until its kernel is there."""
        self.page.goto(f"{self.address}/lab/tree/{path}?token={TOKEN}&reset")
        self.cells.first.wait_for()
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")

    def menu(self, *labels: str) -> None:
        for label in labels:
            items = self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel")
            items.filter(has_text=re.compile(f"^{label}$")).click()

    def type(self, cell: int, text: str, first: str = "Control+A") -> None:
        """Press a key in a cell's editor, by default what selects all of it, and type."""
        self.cells.nth(cell).locator(".cm-content").click()
        self.page.keyboard.press(first)
        self.page.keyboard.insert_text(text)

    def until_run(self) -> None:
        """Wait for the stars of the cells that are to run, and for the last of them to go."""
        starred = self.page.locator(".jp-InputPrompt", has_text="[*]")
        starred.first.wait_for()
        expect(starred).to_have_count(0, timeout=240 * SECONDS)

    def until_all_run(self, path: str) -> None:
        """The same for a whole notebook, until each of its code cells is saved with a number.

        Lab draws cells below the page when it has time, and a folded cell has no star.
        """
        drawn = self.page.locator(".jp-Notebook:visible .jp-CodeCell")
        expect(drawn).to_have_count(len(self._counts(path)))
        self.until_run()
        for _ in range(120):
            self.page.keyboard.press("Control+s")  # where nothing changed, nothing is sent
            self.page.wait_for_timeout(2 * SECONDS)
            if None not in self._counts(path):
                return
        raise AssertionError(f"not every cell ran: {self._counts(path)}")

    def _counts(self, path: str) -> list[int | None]:
        cells = parse_notebook((self.course / path).read_text("utf-8"), path).cells
        return [cell.execution_count for cell in cells if cell.cell_type == "code"]

    def save(self, path: str) -> NotebookNode:
        """Press Ctrl-S, wait for the server's word, and read a notebook."""
        with self.page.expect_response(_is_saved):
            self.page.keyboard.press("Control+s")
        return parse_notebook((self.course / path).read_text("utf-8"), path)

    def end_kernels(self) -> None:
        api, key = f"{self.address}/api/sessions", {"Authorization": f"token {TOKEN}"}
        for session in self.page.request.get(api, headers=key).json():
            self.page.request.delete(f"{api}/{session['id']}", headers=key)

    def shot(self, name: str, of: Locator) -> None:
        """Scroll to something in the middle of the page; keep a picture where one is wanted."""
        for _ in range(2):  # what comes into view for the first time changes the heights
            of.evaluate("element => element.scrollIntoView({block: 'center'})")
            self.page.wait_for_timeout(0.2 * SECONDS)
        if folder := os.environ.get("COMPANION_SHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")


def _is_saved(answer: Response) -> bool:
    return answer.request.method == "PUT" and "/api/contents/" in answer.url


@contextmanager
def _lab(browser: Browser, front_door: str, course: Path) -> Iterator[Lab]:
    """A page that may ask nothing of another machine, and whose kernels end with it."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(60 * SECONDS)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    lab = Lab(page, front_door, course)
    try:
        yield lab
    finally:
        lab.end_kernels()
        page.close()
    here = (f"{lab.address}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(here)] == []


@pytest.fixture
def lab(browser, front_door, course) -> Iterator[Lab]:
    with _lab(browser, front_door, course) as lab:
        yield lab


@pytest.fixture(scope="module", params=WRITTEN, ids=lambda lesson: lesson.stem)
def lesson(request, course) -> Lesson:
    """Each lesson that is no draft, in the copy."""
    return Lesson(request.param.stem, course)


@pytest.fixture(scope="module")
def opened(browser, front_door, course, lesson) -> Iterator[Lab]:
    """A lesson as it stands on the page before anything is run."""
    with _lab(browser, front_door, course) as lab:
        lab.open(f"notebooks/{lesson.notebook.name}")
        yield lab


@pytest.fixture(scope="module")
def worked(browser, front_door, course, lesson) -> Iterator[Lab]:
    """A lesson worked as a reader does: every question answered, then every cell run."""
    sources = [cell.source for cell in read_notebook(lesson).cells]
    asking = next(n for n, source in enumerate(sources) if "lab.predict(" in source)
    with _lab(browser, front_door, course) as lab:
        lab.open(f"notebooks/{lesson.notebook.name}")
        lab.cells.nth(asking).locator(".cm-content").click()
        lab.menu("Run", "Run All Above Selected Cell")
        lab.page.keyboard.press("Shift+Enter")
        lab.until_run()
        for box in lab.cells.nth(asking).locator(".widget-text input").all():
            lab.said.append(f"guess {len(lab.said)}")
            box.fill(lab.said[-1])
        for choice in lab.cells.nth(asking).locator(".widget-radio-box").all():
            option = choice.locator("label").last
            lab.said.append(option.inner_text())
            option.click()
        lab.menu("Run", "Run All Cells")
        lab.until_all_run(f"notebooks/{lesson.notebook.name}")
        yield lab
