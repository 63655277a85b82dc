"""What holds for every test: no network, shape annotations checked, and a count of it all."""

import atexit
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parent
OFFLINE = ROOT / "tests" / "offline"
_folder = tempfile.TemporaryDirectory(prefix="offline-")
atexit.register(_folder.cleanup)
LOG = Path(_folder.name) / "log"

os.environ.setdefault("COMPANION_SCALE", "ci")
os.environ["COMPANION_OFFLINE_LOG"] = str(LOG)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(OFFLINE), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
)
sys.path[:0] = [str(OFFLINE), str(ROOT / "tests"), str(ROOT / "tools")]
import sitecustomize  # noqa: E402

if not hasattr(sitecustomize, "refuse"):  # Python's own came first: load ours beside it
    del sys.modules["sitecustomize"]
    import sitecustomize

sys.addaudithook(sitecustomize.refuse)
install_import_hook("companion", "typechecking.check")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in which anything asked for another machine fails, whoever caught the error."""
    if LOG.exists() and LOG.read_text():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Say how much was tested, what the tests went without, and what asked for the network."""
    from companion import assets

    counts: Counter[str] = config.stash.get(COUNTS, Counter())
    terminalreporter.section("First Questions")
    terminalreporter.write_line(
        f"{counts['lessons']} notebooks, {counts['cells']} cells, {counts['compared']} of them "
        f"compared, {counts['tests']} tests"
    )
    missing = [name for name, here in assets.at_hand().items() if not here]
    terminalreporter.write_line(f"went without: {', '.join(missing) or 'nothing'}")
    if LOG.exists() and LOG.read_text():
        terminalreporter.write_line("asked for the network, which is forbidden:", red=True)
        terminalreporter.write_line(LOG.read_text())


COUNTS = pytest.StashKey[Counter]()


def pytest_collection_finish(session: pytest.Session) -> None:
    counts = session.config.stash.setdefault(COUNTS, Counter())
    cells = [item for item in session.items if hasattr(item, "cell")]
    counts["lessons"] = len({item.path for item in cells})
    counts["cells"] = len(cells)
    counts["compared"] = sum("nbval-check-output" in _tags(item) for item in cells)
    counts["tests"] = len(session.items) - len(cells)


def _tags(item: pytest.Item) -> list[str]:
    return item.cell.metadata.get("tags", [])
