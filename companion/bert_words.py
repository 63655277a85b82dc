"""From a text to words and pieces of words, as an uncased BERT reads it."""

# Exported from lessons/21_bert_inputs.md: edit that, then run `make lessons`.

__all__ = [
    "CHINESE",
    "Word",
    "is_chinese",
    "is_punctuation",
    "pieces",
    "plainly",
    "read_vocabulary",
    "words",
]

import json
import unicodedata
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

Word = list[tuple[str, int]]  # characters, each with its place in the text


def pieces(word: str, vocab: Collection[str]) -> list[str] | None:
    """A word as the longest pieces that the vocabulary has, taken from the left.

    All but the first begin with ##. None where at some place no piece fits, and for a
    word of more than 100 characters, as in Hugging Face's tokenizers (the release now
    has 200).
    """
    if len(word) > 100:
        return None
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = "##" * (start > 0) + word[start:end]
            if piece in vocab:
                break
        else:
            return None
        found.append(piece)
        start = end
    return found


@cache
def plainly(char: str) -> str:
    """A character as an uncased BERT has it: lower case, no accents, blanks as " ".

    Nothing for a control character; a Chinese one between blanks, to be its own word.
    """
    kind = unicodedata.category(char)
    if char in "\t\n\r" or kind[0] == "Z":
        return " "
    if kind[0] == "C" or char == "\ufffd":
        return ""
    parts = unicodedata.normalize("NFD", char)  # é as e and its accent
    plain = "".join(c.lower() for c in parts if unicodedata.category(c) != "Mn")
    return f" {plain} " if is_chinese(char) else plain


CHINESE = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)]
CHINESE += [(0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF)]
CHINESE += [(0x2F800, 0x2FA1F)]


def is_chinese(char: str) -> bool:
    """Whether the release takes a character for Chinese; Hangul and kana are not."""
    return any(first <= ord(char) <= last for first, last in CHINESE)


@cache
def is_punctuation(char: str) -> bool:
    """All of ASCII's signs, $ and + too, and what Unicode calls punctuation."""
    sign = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return sign or unicodedata.category(char)[0] == "P"


def words(text: str) -> Iterator[Word]:
    """The words of a text, cut at blanks; each sign of punctuation is one."""
    word: Word = []
    for at, char in enumerate(text):
        for plain in plainly(char):
            alone = is_punctuation(plain)
            if (alone or plain == " ") and word:
                yield word
                word = []
            if alone:
                yield [(plain, at)]
            elif plain != " ":
                word.append((plain, at))
    if word:
        yield word


def read_vocabulary(folder: Path) -> list[str]:
    """The tokens of a release's vocab.txt, a line each, in the order of their ids."""
    settings = folder / "tokenizer_config.json"
    known = json.loads(settings.read_text("utf-8")) if settings.exists() else {}
    if not known.get("do_lower_case", True):
        raise ValueError(f"{folder} is a cased release; this reads uncased ones")
    lines = (folder / "vocab.txt").read_text("utf-8").removesuffix("\n")
    return lines.split("\n")
