"""Which ids a text becomes: GPT-2's encoding, one learned from a text, or plain bytes.

    Encoding.named("gpt2")            GPT-2's 50,257 tokens, as companion.assets has them
    Encoding.named("bytes")           256 tokens, one a byte: nothing to learn or to fetch
    Encoding.named("chars", text)     one a character of that text
    Encoding.named("learn:4096", text)  so many tokens, learned from that text
    Encoding.named("learned.json")      a BPETokenizer that was saved by that name

An encoding is kept beside the shards that are made with it, so that samples can be written.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from companion import assets
from companion.data import CharTokenizer
from companion.tokenizer import BPETokenizer

__all__ = ["FILE", "Encoding"]

FILE = "encoding.json"


@dataclass(frozen=True)
class Encoding:
    """A name that tells encodings apart, how many ids there are, and text to ids and back.

    `end`: the id that goes before each document, if there is one.
    """

    name: str
    vocab_size: int
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    end: int | None
    kept: dict

    @classmethod
    def named(cls, name: str, text: str | None = None) -> "Encoding":
        """ "gpt2", "bytes", "chars" of a text, or the path of a saved BPETokenizer.

        ValueError for another name, for chars without a text, for more than 65,536 tokens.
        """
        kind, _, size = name.partition(":")
        if kind in ("chars", "learn") and text is None:
            raise ValueError(f"{name!r} needs the text that it is taken from")
        if name == "chars":
            return cls.of({"kind": "chars", "chars": CharTokenizer(text).chars})
        if kind == "learn" and size.isdigit():
            return cls.of({"kind": "bpe", "tokenizer": _learned(text, int(size))})
        if name in ("gpt2", "bytes"):
            return cls.of({"kind": name})
        if Path(name).is_file():
            return cls.of({"kind": "bpe", "tokenizer": Path(name).read_text("utf-8")})
        raise ValueError(
            f"encoding {name!r} is none of gpt2, bytes, chars, learn:SIZE, nor a file with a "
            "saved tokenizer"
        )

    @classmethod
    def load(cls, folder: Path) -> "Encoding":
        """The encoding that a folder of shards was made with. FileNotFoundError without one."""
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: it says which encoding the shards are of")
        return cls.of(json.loads(path.read_text("utf-8")))

    def save(self, folder: Path) -> None:
        """Keep it in a folder, whole or not at all."""
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(self.kept), "utf-8")
        os.replace(part, folder / FILE)

    @classmethod
    def of(cls, kept: dict) -> "Encoding":
        """The encoding that `kept` describes, as a folder or another process has it."""
        kind = kept.get("kind")
        if kind == "bytes":
            return cls("bytes", 256, str.encode, _from_bytes, None, kept)
        if kind == "chars":
            chars = CharTokenizer(kept["chars"])
            name = f"chars-{_fingerprint(chars.chars)}"
            return cls(name, chars.vocab_size, chars.encode, chars.decode, None, kept)
        if kind == "gpt2":
            gpt2 = assets.encoding("gpt2")
            return cls(
                "gpt2", gpt2.n_vocab, gpt2.encode_ordinary, gpt2.decode, gpt2.eot_token, kept
            )
        if kind == "bpe":
            return cls._bpe(kept)
        raise ValueError(f"{FILE} speaks of the encoding {kind!r}, which is not known")

    @classmethod
    def _bpe(cls, kept: dict) -> "Encoding":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tokenizer.json")
            path.write_text(kept["tokenizer"], "utf-8")
            bpe = BPETokenizer.load(path)
        if bpe.vocab_size > 2**16:
            raise ValueError(f"{bpe.vocab_size} tokens do not fit two bytes; 65,536 do")
        end = bpe.special_tokens.get("<|endoftext|>")
        name = f"bpe-{_fingerprint(kept['tokenizer'])}"
        return cls(name, bpe.vocab_size, bpe.encode_ordinary, bpe.decode, end, kept)


def _from_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _learned(text: str, size: int) -> str:
    """A tokenizer of that many tokens, with an end of text, as its file has it."""
    bpe = BPETokenizer.train(text, size, special_tokens=["<|endoftext|>"])
    with tempfile.TemporaryDirectory() as folder:
        bpe.save(Path(folder, "tokenizer.json"))
        return Path(folder, "tokenizer.json").read_text("utf-8")
