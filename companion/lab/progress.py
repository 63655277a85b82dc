"""A progress bar that leaves nothing behind when it is done."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield the items under a bar that says what is going on."""
    total = len(items) if isinstance(items, Sized) else None
    yield from tqdm(items, desc=what, total=total, leave=False)
