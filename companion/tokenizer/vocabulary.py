"""A tokenizer's tables: checked, and as a file that can be read."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from companion.bpe import BYTE_ORDER, PRINTABLE

Names = Literal["all"] | Collection[str]
FORMAT = "byte-level BPE, 1"
_hidden = [byte for byte in BYTE_ORDER if byte not in PRINTABLE]
STAND_IN = {byte: chr(byte) for byte in PRINTABLE}
STAND_IN |= {byte: chr(256 + n) for n, byte in enumerate(_hidden)}
_BYTE_OF = {char: byte for byte, char in STAND_IN.items()}


def readable(token: bytes) -> str:
    """A token with a character for each byte, as in GPT-2's files: Ġ is a space."""
    return "".join(STAND_IN[byte] for byte in token)


def from_readable(text: str) -> bytes:
    """The token that `readable` wrote. ValueError for another character."""
    if strange := set(text) - _BYTE_OF.keys():
        raise ValueError(f"{min(strange)!r} in the token {text!r} does not stand for a byte")
    return bytes(_BYTE_OF[char] for char in text)


def check_text(text: str) -> None:
    """TypeError if it is not a string; ValueError for half a character."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {text!r:.60}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is {text[error.start]!r}, a lone surrogate: half "
            "a character, for which UTF-8 has no bytes. Was the text cut, or misread?"
        ) from None


def check_ranks(ranks: Mapping[bytes, int]) -> None:
    """Raise where tokens and ids do not belong to each other one to one.

    TypeError for tokens that are not bytes and ids that are not integers; ValueError for
    an empty token, an id below 0 or used twice, and a byte that has no id.
    """
    for token, id in ranks.items():
        if not isinstance(token, bytes):
            raise TypeError(f"tokens must be bytes, got {token!r:.60}")
        _check_id(token, id)
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise ValueError(
            f"{len(missing)} bytes have no id, the first of them {missing[0]}; without "
            "all 256 there are texts that cannot be encoded"
        )
    _check_once(ranks.values())


def check_special(special: Mapping[str, int], ranks: Mapping[bytes, int]) -> None:
    """The same for special tokens, which are strings, and must not overlap."""
    for name, id in special.items():
        check_text(name)
        _check_id(name, id)
    _check_once([*ranks.values(), *special.values()])
    check_apart(special)


def _check_id(token: bytes | str, id: int) -> None:
    if not token:
        raise ValueError("a token is empty; it would occur between any two characters")
    if type(id) is not int:
        raise TypeError(f"token {token!r} has the id {id!r}; ids are integers")
    if id < 0:
        raise ValueError(f"token {token!r} has the id {id}; ids begin at 0")


def _check_once(ids: Collection[int]) -> None:
    if len(set(ids)) < len(ids):
        id, times = Counter(ids).most_common(1)[0]
        raise ValueError(f"id {id} belongs to {times} tokens")


def names_in(given: Names, what: str, every: Iterable[str] | None = None) -> list[str]:
    """A list of names of special tokens; all of them for "all"."""
    if every is not None and isinstance(given, str) and given == "all":
        return list(every)
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError(f"{what} must be a list or a set of strings, got {given!r:.60}")
    for name in given:
        check_text(name)
        if not name:
            raise ValueError(f"{what} has an empty string, which every text has")
    if len(set(given)) < len(given):
        raise ValueError(f"{what} has a string twice: {given!r:.60}")
    return list(given)


def check_apart(names: Iterable[str]) -> None:
    """ValueError where two special tokens could claim the same characters of a text."""
    by_first: dict[str, list[str]] = {}
    for name in names:
        by_first.setdefault(name[0], []).append(name)
    for name in names:
        for tail in (name[at:] for at in range(len(name))):
            for other in by_first.get(tail[0], []):
                if other != name and (other.startswith(tail) or tail.startswith(other)):
                    raise ValueError(
                        f"the special tokens {name!r} and {other!r} overlap: in some "
                        "texts both would claim the same characters"
                    )


def write_file(
    path: str | Path,
    pattern: str,
    special: Mapping[str, int],
    ranks: Mapping[bytes, int],
) -> None:
    """Keep pattern, special tokens and ranks as JSON; whole, or not at all."""
    tables = {
        "format": FORMAT,
        "pattern": pattern,
        "special_tokens": dict(special),
        "tokens": {readable(token): id for token, id in ranks.items()},
    }
    text = json.dumps(tables | {"sha256": _digest(tables)}, indent=1, ensure_ascii=False)
    part = Path(path).with_name(Path(path).name + ".part")
    try:
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_file(path: str | Path) -> tuple[Any, Any, dict[bytes, Any]]:
    """Pattern, special tokens and ranks that `write_file` kept; their kinds unchecked.

    ValueError, which names the file, where it is cut short, altered or something else;
    FileNotFoundError where there is none.
    """
    try:
        tables = json.loads(Path(path).read_bytes().decode("utf-8"))
        if not isinstance(tables, dict) or tables.get("format") != FORMAT:
            raise ValueError(f"it does not say that its format is {FORMAT!r}")
        if tables.pop("sha256", None) != _digest(tables):
            raise ValueError("its contents do not have the SHA-256 that it says")
        special = tables["special_tokens"]
        ranks = {from_readable(text): id for text, id in tables["tokens"].items()}
        return tables["pattern"], special, ranks
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a tokenizer, or is damaged: {error}") from error


def _digest(tables: Mapping[str, Any]) -> str:
    plain = json.dumps(tables, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()
