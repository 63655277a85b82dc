"""A progress bar that leaves nothing behind when it is done."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from IPython.display import display
from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

T = TypeVar("T")


def progress(items: Iterable[T], what: str) -> Iterator[T]:
    """Yield the items under a bar that says what is going on."""
    total = len(items) if isinstance(items, Sized) else None
    options = {"desc": what, "total": total, "leave": False}
    if not issubclass(tqdm, tqdm_notebook):
        yield from tqdm(items, **options)
        return
    bar = tqdm(items, **options, display=False)
    place = display(bar.container, display_id=True)
    try:
        yield from bar
    finally:  # a closed bar that stays in a saved notebook reads "Error displaying widget"
        place.update({}, raw=True)
