"""The tokenizer whole: learned from a text, kept in a file, and with special tokens."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import tiktoken
from tqdm.auto import tqdm

from companion.bpe import tokens_of

from .merging import learn
from .ordinary import OrdinaryBPE
from .splitting import GPT2_PATTERN, Splitter, cut_at
from .vocabulary import (
    Names,
    check_apart,
    check_special,
    check_text,
    names_in,
    read_file,
    write_file,
)


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

    def __repr__(self) -> str:
        return (
            f"BPETokenizer({len(self.ranks)} tokens, {len(self.special_tokens)} special, "
            f"pattern={self.pattern!r})"
        )

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
        names = names_in(special_tokens, "special_tokens")
        check_apart(names)
        if type(vocab_size) is not int:
            raise TypeError(f"vocab_size must be an integer, got {vocab_size!r:.60}")
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
        a ValueError where the text has one. What is neither is plain text, and names
        that this tokenizer does not have may be among the allowed.
        TypeError if the text is not a string; ValueError for a lone surrogate.
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
        allowed = names_in(allowed_special, "allowed_special", self.special_tokens)
        refused = names_in(disallowed_special, "disallowed_special", self.special_tokens)
        if disallowed_special == "all":
            refused = [name for name in refused if name not in allowed]
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
                raise ValueError(self._refusal(name, text.index(name), allowed))
        plain, *rest = cut_at(text, [name for name in allowed if name in self.special_tokens])
        ids = self.encode_ordinary(plain, known)
        for name, plain in zip(rest[::2], rest[1::2]):
            ids += [self.special_tokens[name], *self.encode_ordinary(plain, known)]
        return ids

    def _refusal(self, name: str, at: int, allowed: list[str]) -> str:
        if name not in self.special_tokens:
            return (
                f"the text has {name!r} at {at}, which disallowed_special names and which is "
                "no special token of this tokenizer; to take it for plain text, leave it out"
            )
        unknown = [other for other in allowed if other not in self.special_tokens]
        return (
            f"the text has the special token {name!r} at {at}. To make it one, give "
            f"allowed_special={{{name!r}}}; to take it for plain text, disallowed_special=()"
        ) + (f". Among the allowed, {unknown[0]!r} is no special token" if unknown else "")

    def save(self, path: str | Path) -> None:
        """Keep it as JSON that can be read; whole, or the file stays as it was."""
        write_file(path, self.pattern, self.special_tokens, self.ranks)

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """What `save` kept. ValueError if the file is cut short, altered or another kind."""
        pattern, special, ranks = read_file(path)
        try:
            return cls(ranks, pattern=pattern, special_tokens=special)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a tokenizer: {error}") from error

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> "BPETokenizer":
        """The same ranks, pattern and special tokens as a tiktoken encoding."""
        if not isinstance(encoding, tiktoken.Encoding):
            raise TypeError(f"from_tiktoken takes a tiktoken.Encoding, got {encoding!r:.60}")
        # tiktoken has no public names for these; its own instructions for extending an
        # encoding read the same three, so they are unlikely to move.
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
