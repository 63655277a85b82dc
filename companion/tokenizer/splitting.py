"""A text cut into words by a pattern: no merge crosses the end of a word."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import regex

from companion.bpe import GPT2_PATTERN

# What is a letter stands in the tables of a library, and Unicode grows: `regex` knows letters that
# tiktoken 0.14 does not know yet. To have its ids, these code points, assigned since Unicode 16,
# are taken for characters without a kind. Made by asking both libraries of every code point whether
# it is \p{L}, \p{N} or \s: those where they differ, each span running on over unassigned ones. When
# a new tiktoken knows them, test_every_code_point_is_of_tiktokens_kind fails: make the list again.
YOUNG = """558 58b-58c 5c8-5c9 88f b53-b54 c5c cdc 1acf-1af0 208f 209d-209f 20c1-20c4
2b96 2e60-2e63 a7ce-a7cf a7d2 a7d4 a7dd-a7f1 ab6c-ab6d fbc3-fbd2 fd90-fd91 fdc8-fdce
107bb-107bf 10940-10959 10ec5-10efb 11b0a-11b67 11db0-11df1 1246f 12475-1247f
12550-12686 16ea0-16ed3 16ff2-16ff6 187f8-187ff 18cd6-18cda 18d09-191d2 1b123-1b128
1b168 1ccfa-1ccfc 1ceba-1cefd 1d127-1d128 1d1eb-1d1ff 1d250-1d281 1d6a6 1db00-1db1c
1df1f-1df24 1df2b-1dfff 1e6c0-1e6ff 1f1ae 1f6d8-1f6d9 1f777-1f77a 1f7da-1f7db
1f7f1-1f7ff 1f8d0-1f8d8 1fa54-1fa57 1fa8a-1fa8e 1fac8-1facd 1fadd 1faea-1faef
1faf9-1fafa 1fbfa 2b73a-2b73f 2b81e 2cea2-2cead 323b0-3fc3f"""
_young = re.compile(
    "["
    + "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in YOUNG.split())
    + "]"
)
# The same pattern for ASCII texts, where Python's own `re` takes half the time.
GPT2_IN_ASCII = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]++| ?[0-9]++| ?[^\sA-Za-z0-9]++"
    r"|\s++$|\s+(?!\S)|\s",
    re.ASCII,
)
NAMELESS = "\uffff"  # a code point that will never be a character


class Splitter:
    """Cuts a text into words by a pattern: one after the other, and nothing left out.

    Letters, digits and the like are those of Unicode 16, whatever tables `regex` has,
    and `$` is the end of the text, as in tiktoken.
    ValueError for an invalid pattern, one that has a capturing group, or one that
    passes over a part of a text; TypeError if it is not a string.
    """

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"pattern must be a string, got {pattern!r:.60}")
        try:
            self._pattern = regex.compile(_ends_as_tiktokens(pattern))
        except regex.error as error:
            raise ValueError(f"invalid pattern {pattern!r}: {error}") from None
        self._given = pattern
        if self._pattern.groups:
            raise ValueError(f"{pattern!r} has a capturing group; write (?:...) for it")

    def split(self, text: str) -> list[str]:
        """The words of a text; joined, they are the text."""
        if _has_young(text):
            words = list(self._words(text))
        else:  # all at once is faster
            words = self._for(text).findall(text)
        self._nothing_lost(sum(map(len, words)), text)
        return words

    def count(self, text: str) -> Counter[str]:
        """How often each word occurs, without holding all of them."""
        counts = Counter(self._words(text))
        self._nothing_lost(sum(len(word) * n for word, n in counts.items()), text)
        return counts

    def _words(self, text: str) -> Iterator[str]:
        if not _has_young(text):
            return (found.group() for found in self._for(text).finditer(text))
        spans = self._pattern.finditer(_young.sub(NAMELESS, text))
        return (text[slice(*span.span())] for span in spans)

    def _for(self, text: str) -> re.Pattern | regex.Pattern:
        gpt2s = self._given == GPT2_PATTERN
        return GPT2_IN_ASCII if gpt2s and text.isascii() else self._pattern

    def _nothing_lost(self, length: int, text: str) -> None:
        if length != len(text):
            raise ValueError(
                f"the pattern {self._given!r} passes over "
                f"{len(text) - length} of {len(text)} characters; they would be lost"
            )


def _ends_as_tiktokens(pattern: str) -> str:
    """With \\Z for `$`, which in `regex` is also in front of a last newline.

    Not where `$` is escaped or in a set, and not with the flag m, which means the
    end of each line to both.
    """
    if regex.search(r"(?<!\\)\(\?[a-z]*m", pattern):
        return pattern
    kept_or_end = r"(\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])|\$"
    return regex.sub(kept_or_end, lambda found: found[1] or r"\Z", pattern, flags=regex.DOTALL)


def _has_young(text: str) -> bool:
    return not text.isascii() and _young.search(text) is not None


def cut_at(text: str, names: Sequence[str]) -> list[str]:
    """The text between names, and the names, in turn: text, name, text, ... text."""
    if not names:
        return [text]
    return re.split("(" + "|".join(map(re.escape, names)) + ")", text)
