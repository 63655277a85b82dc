"""A text as ids in a file, and batches as rows of that file."""

# Exported from lessons/14_training_loop.md: edit that, then run `make lessons`.

__all__ = ["CharTokenizer", "DataLoaderLite", "write_tokens"]

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


class CharTokenizer:
    """The characters of a text, sorted: each one's place is its id.

    ValueError for an empty text.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("the text is empty; a tokenizer needs characters to know")
        self.chars = "".join(sorted(set(text)))
        self._ids = {char: n for n, char in enumerate(self.chars)}

    @property
    def vocab_size(self) -> int:
        """How many different characters there are."""
        return len(self.chars)

    def encode(self, text: str) -> list[int]:
        """One id a character. ValueError for a character that was not in the text."""
        try:
            return [self._ids[char] for char in text]
        except KeyError as error:
            raise ValueError(
                f"{error.args[0]!r} is not one of the {self.vocab_size} characters "
                "that this tokenizer knows"
            ) from None

    def decode(self, ids: Iterable[int] | Int[Tensor, "T"]) -> str:
        """The characters of ids. ValueError for an id that no character has."""
        ids = [int(i) for i in ids]
        if strange := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise ValueError(f"id {strange[0]}: ids go from 0 to {self.vocab_size - 1}")
        return "".join(self.chars[i] for i in ids)


def write_tokens(path: Path, ids: Sequence[int] | np.ndarray) -> None:
    """Keep ids as a NumPy file, two bytes each, or four where an id is over 65,535.

    The file is written whole or not at all. ValueError for an empty row, or for what is
    no id.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise ValueError("ids should be a row of whole numbers, one or more")
    if array.min() < 0 or array.max() >= 2**32:
        raise ValueError("ids should be whole numbers from 0 to 4,294,967,295")
    dtype = np.uint16 if array.max() < 2**16 else np.uint32
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.save(stream, array.astype(dtype))
    os.replace(part, path)


class DataLoaderLite:
    """Batches of B rows of T tokens, each with what follows, from a file of ids.

    Row r holds tokens r*T to r*T + T - 1, and its targets are the tokens one later: all
    rows together ask once for every token but the first and what is left at the end.
    The rows come in an order drawn anew for each epoch from `seed`; fewer than B that
    are left at its end are not read in it. The file is mapped, not read: memory holds
    the rows that are asked for.
    ValueError where the file has fewer than B rows.
    """

    def __init__(self, tokens: Path, B: int, T: int, *, seed: int = 0) -> None:
        self.tokens = np.load(tokens, mmap_mode="r")
        self.B, self.T, self.seed = B, T, seed
        self.rows = (len(self.tokens) - 1) // T  # the last target needs a token, too
        if self.rows < B:
            raise ValueError(
                f"{len(self.tokens)} tokens make {self.rows} rows of T={T} and a "
                f"successor; a batch of B={B} needs more"
            )
        self.epoch, self.at = 0, 0
        self._order = self._shuffled()

    def next_batch(self) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """The next ids and their targets; after an epoch's last, the next epoch's."""
        if self.at + self.B > self.rows:
            self.epoch, self.at = self.epoch + 1, 0
            self._order = self._shuffled()
        rows = self._order[self.at : self.at + self.B]
        self.at += self.B
        return self.batch(rows)

    def spread(self, batches: int) -> list[tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]]:
        """So many batches, of rows spread evenly over the file: always the same.

        `next_batch` goes on as if nothing had been asked. Fewer, if the file has no
        more.
        """
        count = min(batches * self.B, self.rows // self.B * self.B)
        rows = np.linspace(0, self.rows - 1, count).round().astype(int)
        return [self.batch(some) for some in rows.reshape(-1, self.B)]

    def batch(self, rows: np.ndarray) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """The ids and the targets of these rows."""
        places = rows[:, None] * self.T + np.arange(self.T + 1)  # (B, T + 1)
        window = torch.from_numpy(self.tokens[places].astype(np.int64))
        return window[:, :-1], window[:, 1:]

    def _shuffled(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
