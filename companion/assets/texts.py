"""Texts to train and count on: two that come with Python, two that are fetched once."""

import os
import sys
import sysconfig
from pathlib import Path

from .files import AssetError, Pin, assets_folder, cache_folder, command, download, find

RAW = "https://raw.githubusercontent.com/karpathy"
PINS = {
    "taylorswift": Pin(
        "taylorswift",
        "taylorswift.txt",
        f"{RAW}/minbpe/master/tests/taylorswift.txt",
        185_768,
        "c2e39cb822d4ae0caac22152cefc306d466e31217a9c5524e493ad2b76792f57",
    ),
    "tinyshakespeare": Pin(
        "tinyshakespeare",
        "tinyshakespeare.txt",
        f"{RAW}/char-rnn/master/data/tinyshakespeare/input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}


def text(name: str, *, fallback: str | None = None) -> str:
    """A text by its name, and one printed line that says which text it is and how large.

    python_docs      Python's own reference, as `help("if")` shows it: 0.5 MB of English prose
    python_source    the standard library's code, 10 MB; what is in it, see `source_files`
    taylorswift      the page that minbpe trains its tokenizer on, 0.2 MB
    tinyshakespeare  the plays that char-rnn and nanoGPT learn to imitate, 1.1 MB

    The first two come with Python and differ a little from one version of it to the next. The
    others are looked for in COMPANION_ASSETS, then in our cache folder, and else fetched. With a
    `fallback`, which is one of the first two, nothing is ever fetched: it stands in for a text that
    is not on this machine, and the line says so. Nothing stands in for an altered file: AssetError.
    """
    if name not in [*BUILT_IN, *PINS]:
        raise ValueError(f"text {name!r} is none of {', '.join([*BUILT_IN, *PINS])}")
    if fallback not in [None, *BUILT_IN]:
        raise ValueError(f"fallback={fallback!r} is none of {', '.join(BUILT_IN)}")
    if name in BUILT_IN:
        return _announced(name, BUILT_IN[name]())
    path = find(PINS[name], text_folders())
    if path is None and fallback is not None:
        why = f"which is not on this machine ({command(name)} fetches it)"
        return _announced(fallback, BUILT_IN[fallback](), f" in place of {name}, {why}")
    path = path or download(PINS[name], cache_folder())
    return _announced(name, path.read_bytes().decode("utf-8"))  # read_text would alter newlines


def _announced(name: str, body: str, note: str = "") -> str:
    print(f"text: {name}, {len(body.encode('utf-8')):,} bytes{note}")
    return body


def python_docs() -> str:
    """Every topic of `pydoc_data.topics`, sorted by key, a blank line between two.

    Whole sections stand under several topics, so that what is held out of it is not new: of the
    last tenth, 22 % of the characters stand in stretches of 50 that are in the rest too, and 62 %
    of every tenth piece of 4,000 (measured on Python 3.11.7). Lesson 14 keeps each paragraph once.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[key] for key in sorted(topics))


def source_files() -> dict[str, str]:
    """Every .py file of the standard library's modules, by its path there, sorted.

    The modules are those of `sys.stdlib_module_names`: nothing installed, nothing of this machine's
    build. Left out are folders named test, tests or idle_test; idlelib, lib2to3 and turtledemo,
    which are programs; and pydoc_data, the other text. Newlines are "\\n" on every platform.
    """
    library = Path(sysconfig.get_path("stdlib"))
    modules = sys.stdlib_module_names - {"idlelib", "lib2to3", "turtledemo", "pydoc_data"}
    paths = [path for module in modules for path in (library / module).rglob("*.py")]
    paths += [path for module in modules if (path := library / f"{module}.py").is_file()]
    inside = {path.relative_to(library).as_posix(): path for path in paths}
    tests = {"test", "tests", "idle_test"}
    names = sorted(name for name in inside if tests.isdisjoint(name.split("/")))
    if not names:
        raise AssetError("this Python comes without its source", library, "use python_docs")
    return {name: inside[name].read_text(encoding="utf-8") for name in names}


def python_source() -> str:
    """The files of `source_files`, in a row, with nothing put between."""
    return "".join(source_files().values())


BUILT_IN = {"python_docs": python_docs, "python_source": python_source}


def text_folders() -> list[Path]:
    """Where a pinned text may lie, in order."""
    copies = assets_folder()
    return [*([copies] if copies else []), cache_folder()]


def on_this_machine(name: str) -> bool:
    """Whether a text can be had with no network, unverified."""
    if name in BUILT_IN:
        return True
    return any(os.path.lexists(folder / PINS[name].file) for folder in text_folders())
