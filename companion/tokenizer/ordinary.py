"""Text to ids and back, where nothing in the text is special."""

from collections.abc import Iterable, Mapping
from operator import index
from typing import SupportsIndex

from .merging import encode_word
from .splitting import GPT2_PATTERN, Splitter
from .vocabulary import check_ranks, check_text


class OrdinaryBPE:
    """Text to ids and back, by ranks (token to id) and a pattern; nothing is special.

    Raises what `Splitter` and `check_ranks` raise. Copies its arguments.
    """

    def __init__(self, ranks: Mapping[bytes, int], *, pattern: str = GPT2_PATTERN) -> None:
        check_ranks(ranks)
        self.ranks, self.pattern = dict(ranks), pattern
        self._splitter = Splitter(pattern)
        self._bytes_of = {id: token for token, id in self.ranks.items()}

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return max(self._bytes_of) + 1

    def encode_ordinary(self, text: str, known: dict[str, list[int]] | None = None) -> list[int]:
        """The ids of a text. `known` keeps each word's, from one text to the next.

        TypeError if the text is not a string; ValueError for a lone surrogate.
        """
        check_text(text)
        known = {} if known is None else known
        ids: list[int] = []
        for word in self._splitter.split(text):
            found = known.get(word)
            if found is None:
                found = known[word] = self._encode_word(word.encode())
            ids += found
        return ids

    def _encode_word(self, word: bytes) -> list[int]:
        whole = self.ranks.get(word)
        return encode_word(word, self.ranks) if whole is None else [whole]

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """The bytes of ids, in a list or a tensor (T,).

        TypeError for anything but integers; ValueError for an id that no token has.
        """
        try:
            return b"".join([self._bytes_of[index(id)] for id in ids])
        except TypeError:
            raise TypeError(f"ids must be a sequence of integers, got {ids!r:.60}") from None
        except KeyError as error:
            raise ValueError(
                f"id {error.args[0]} is unknown: ids go from {min(self._bytes_of)} to "
                f"{self.vocab_size - 1}, and this tokenizer has {len(self._bytes_of)}"
            ) from None

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids; bytes that are not a whole character become U+FFFD, as �."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")
