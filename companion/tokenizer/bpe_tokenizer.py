"""The tokenizer whole: learned from a text, kept in a file, and with special tokens."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import tiktoken
from tqdm.auto import tqdm

from companion.bpe import tokens_of

from .merging import learn
from .ordinary import OrdinaryBPE
from .splitting import GPT2_PATTERN, Splitter, cut_at
from .vocabulary import (
    check_apart,
    check_special,
    check_text,
    read_file,
    write_file,
)

Names = Literal["all"] | Collection[str]


class BPETokenizer(OrdinaryBPE):
    """GPT-2's tokenizer: bytes, merges, a pattern, and special tokens.

    `decode(encode(text)) == text`. Special tokens are ids that no merge can give; in a
    text they are an error until a caller allows them or takes them for plain text.
    Special tokens that overlap are refused with ValueError.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        *,
        pattern: str = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(ranks, pattern=pattern)
        self.special_tokens = dict(special_tokens or {})
        check_special(self.special_tokens, ranks)
        self._bytes_of |= {id: name.encode() for name, id in self.special_tokens.items()}

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        *,
        pattern: str = GPT2_PATTERN,
        special_tokens: Collection[str] = (),
        bar: Callable[[Iterable[int], str], Iterable[int]] = tqdm,
    ) -> "BPETokenizer":
        """Learn from a text until there are `vocab_size` tokens, the special ones too.

        These get the last ids, and nothing is learned from where the text has them.
        ValueError for an empty text, and for a size that is less than 256 bytes and the
        special tokens need, or more than the text can give.
        """
        check_text(text)
        names = _names(special_tokens, "special_tokens")
        check_apart(names)
        if type(vocab_size) is not int:
            raise TypeError(f"vocab_size={vocab_size!r} should be an integer")
        merges = vocab_size - 256 - len(names)
        if merges < 0:
            raise ValueError(
                f"{vocab_size=} should be at least {256 + len(names)}: each of 256 "
                f"bytes is a token, and {len(names)} are special"
            )
        if not text:
            raise ValueError("the text is empty; there is nothing to learn from")
        splitter, words = Splitter(pattern), Counter()
        for part in cut_at(text, names)[::2]:
            words.update(splitter.count(part))
        pairs = learn({word.encode(): n for word, n in words.items()}, merges, bar)
        if len(pairs) < merges:
            raise ValueError(
                f"{vocab_size=} is more than the text can give: after {len(pairs)} "
                "merges nothing is left to merge, at "
                f"{256 + len(pairs) + len(names)} tokens"
            )
        tokens = tokens_of(pairs)
        ranks = {token: id for id, token in enumerate(tokens)}
        special = {name: len(tokens) + n for n, name in enumerate(names)}
        return cls(ranks, pattern=pattern, special_tokens=special)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Names = (),
        disallowed_special: Names = "all",
    ) -> list[int]:
        """The ids of a text; special tokens as tiktoken treats them.

        Those allowed become their id. Those disallowed (all the others, by default) are
        a ValueError where the text has one. What is neither is plain text.
        TypeError for what is no string; ValueError for a lone surrogate.
        """
        return self.encode_batch(
            [text],
            allowed_special=allowed_special,
            disallowed_special=disallowed_special,
        )[0]

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: Names = (),
        disallowed_special: Names = "all",
    ) -> list[list[int]]:
        """Each text's ids, as `encode` gives them; a word in several is merged once."""
        if isinstance(texts, str):
            raise TypeError("encode_batch takes several texts; encode takes one")
        allowed = _names(allowed_special, "allowed_special", self.special_tokens)
        refused = _names(disallowed_special, "disallowed_special", self.special_tokens)
        if disallowed_special == "all":
            refused = [name for name in refused if name not in allowed]
        allowed = [name for name in allowed if name in self.special_tokens]
        known: dict[str, list[int]] = {}
        return [self._encode(text, allowed, refused, known) for text in texts]

    def _encode(
        self,
        text: str,
        allowed: list[str],
        refused: list[str],
        known: dict[str, list[int]],
    ) -> list[int]:
        check_text(text)
        for name in refused:
            if name in text:
                raise ValueError(
                    f"the text has the special token {name!r} at {text.index(name)}. "
                    f"To make it one, give allowed_special={{{name!r}}}; to take it "
                    "for plain text, disallowed_special=()"
                )
        plain, *rest = cut_at(text, allowed)
        ids = self.encode_ordinary(plain, known)
        for name, plain in zip(rest[::2], rest[1::2]):
            ids += [self.special_tokens[name], *self.encode_ordinary(plain, known)]
        return ids

    def save(self, path: str | Path) -> None:
        """Keep it as JSON that can be read; whole, or the file stays as it was."""
        write_file(path, self.pattern, self.special_tokens, self.ranks)

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """What `save` kept. ValueError for a file cut short, altered, or no such."""
        pattern, special, ranks = read_file(path)
        try:
            return cls(ranks, pattern=pattern, special_tokens=special)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is no tokenizer: {error}") from error

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> "BPETokenizer":
        """The same ranks, pattern and special tokens as a tiktoken encoding."""
        if not isinstance(encoding, tiktoken.Encoding):
            raise TypeError(f"from_tiktoken takes a tiktoken.Encoding, not {encoding!r:.60}")
        return cls(
            encoding._mergeable_ranks,
            pattern=encoding._pat_str,
            special_tokens=encoding._special_tokens,
        )

    def to_tiktoken(self, name: str = "first_questions") -> tiktoken.Encoding:
        """A tiktoken encoding that gives the same ids."""
        return tiktoken.Encoding(
            name,
            pat_str=self.pattern,
            mergeable_ranks=self.ranks,
            special_tokens=self.special_tokens,
        )


def _names(given: Names, what: str, every: Iterable[str] | None = None) -> list[str]:
    """A list of names of special tokens; all of them for "all"."""
    if every is not None and isinstance(given, str) and given == "all":
        return list(every)
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError(f"{what}={given!r:.60} should be strings in a list or a set")
    for name in given:
        check_text(name)
        if not name:
            raise ValueError(f"{what} has an empty string, which every text has")
    if len(set(given)) < len(given):
        raise ValueError(f"{what}={given!r:.60} has a string twice")
    return list(given)
