"""Which way imports run in companion/: down the floors, and back in the course, never ahead."""

import ast
from collections.abc import Iterator
from pathlib import Path

from .exporting import owner_of

# From the ground up. What is not named is a piece: a module that a lesson exports.
FLOORS = {"__init__": 0, "assets": 0, "holding": 0, "tokenizer": 2, "gpt": 2, "bert": 2}
FLOORS |= {"bert_heads": 2, "bert_pretraining": 3, "doctor": 3, "parity": 3, "pretrain": 4}
PIECES, LAB = 1, 5  # only notebooks and tests import lab


def floor(module: str) -> int:
    return LAB if module == "lab" else FLOORS.get(module, PIECES)


def companion_imports(tree: ast.AST, package: str = "") -> Iterator[tuple[int, str]]:
    """Line and name of each companion module that code imports, inside functions too.

    package: the one the code itself lies in, for relative imports ("companion.lab").
    """
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join(filter(None, [*above, node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("companion."):
                yield node.lineno, name.split(".")[1]


def modules(root: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Each file of companion/, the module it belongs to, and the lesson that exports it, if any."""
    folder = root / "companion"
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        name = inside.stem if len(inside.parts) == 1 else inside.parts[0]
        generated = len(inside.parts) == 1
        yield path, name, owner_of(path.read_text("utf-8")) if generated else None


def wrong_ways(root: Path) -> Iterator[tuple[Path, int, str]]:
    """File, line and complaint for each import that runs upward, sideways or ahead."""
    files = list(modules(root))
    owners = {name: stem for _, name, stem in files if stem}
    for path, name, stem in files:
        package = ".".join(path.relative_to(root).with_suffix("").parts[:-1])
        tree = ast.parse(path.read_text("utf-8"))
        for line, other in companion_imports(tree, package):
            if other == name or not _exists(root, other):
                continue
            if floor(other) > floor(name):
                yield path, line, f"companion.{name} imports companion.{other}, which lies above it"
            elif floor(other) == floor(name) and name not in owners:
                yield path, line, f"companion.{name} imports companion.{other}, on the same floor"
            elif stem and owners.get(other, "") > stem:
                yield path, line, f"{stem} imports what {owners[other]} exports: companion.{other}"


def _exists(root: Path, module: str) -> bool:
    """Whether it is a module: `from companion import __version__` names none."""
    place = root / "companion" / module
    return place.is_dir() or place.with_suffix(".py").exists()
