"""Turn texts into token shards: `python -m companion.pretrain.prepare --help`.

Documents are read in order, encoded by several processes, and written as shards of about
`shard_tokens`. Each time a train shard is full it is written, with the val tokens that came
meanwhile, and `prepared.json` notes how many documents are in. Stopped at any moment and run again,
it goes on from there, to the same files.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from companion import assets
from companion.pretrain.encodings import FILE, Encoding
from companion.pretrain.shards import write_shard

__all__ = ["Prepare", "documents_of", "prepare"]

NOTE = "prepared.json"
AT_ONCE = 1024  # documents in memory


@dataclass(frozen=True)
class Prepare:
    """Make token shards of a text."""

    source: str
    """A text file, a folder of them, a text by name (python_docs, python_source, tinyshakespeare,
    taylorswift), or a Hugging Face dataset: hf:HuggingFaceFW/fineweb-edu:sample-10BT, streamed."""
    out: Path
    """The folder that the shards go to."""
    encoding: str = "gpt2"
    """gpt2, bytes, chars, learn:SIZE (a BPETokenizer of so many tokens, learned from the text), or
    the path of a tokenizer that BPETokenizer saved."""
    shard_tokens: int = 100_000_000
    """A shard is written when it has so many tokens, at a document's end."""
    val_share: float = 0.01
    """About this share of the documents is held out, by their number; of a single text, its end."""
    processes: int = os.cpu_count() or 1
    """How many processes encode."""
    column: str = "text"
    """Of a dataset: the column with the text."""
    limit: int | None = None
    """Stop after so many documents."""

    def __post_init__(self) -> None:
        for name in ("shard_tokens", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} should be at least 1")
        if not 0 <= self.val_share < 1:
            raise ValueError(f"val_share={self.val_share} should be from 0 to under 1")


def documents_of(source: str, *, column: str = "text") -> Iterator[str]:
    """The texts of a source, always in the same order. See `Prepare.source`.

    FileNotFoundError or ValueError where there are none.
    """
    if source.startswith("hf:"):
        yield from _dataset(source.removeprefix("hf:"), column)
    elif Path(source).is_dir():
        files = sorted(path for path in Path(source).rglob("*") if path.is_file())
        if not files:
            raise ValueError(f"there is no file in {source}")
        for path in files:
            yield path.read_text("utf-8", errors="replace")
    elif Path(source).is_file():
        yield Path(source).read_text("utf-8", errors="replace")
    elif os.sep in source or "." in source:
        raise FileNotFoundError(f"there is no file or folder {source}")
    else:
        yield _named(source)


@cache
def _named(name: str) -> str:
    """One of the course's texts; read, and announced, once."""
    return assets.text(name)


def _dataset(name: str, column: str) -> Iterator[str]:
    """Rows of a dataset on the hub, as they come."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "a Hugging Face dataset needs the package: pip install datasets"
        ) from error
    path, _, config = name.partition(":")
    for row in datasets.load_dataset(path, config or None, split="train", streaming=True):
        if column not in row:
            raise ValueError(f"{name} has no column {column!r}; it has {', '.join(row)}")
        yield row[column]


def prepare(options: Prepare) -> None:
    """Write the shards of a source; go on where an earlier call was stopped.

    ValueError where the folder holds shards that were made with other options.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    encoding = _encoding(options)
    done = _begin(options, encoding)
    if done["finished"]:
        print(f"{options.out} is complete: {done['shards']} shards, {done['tokens']:,} tokens")
        return
    documents = documents_of(options.source, column=options.column)
    rest = islice(_with_splits(documents, options.val_share), done["documents"], options.limit)
    pending: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    bar = tqdm(desc="preparing", unit=" tokens", unit_scale=True, initial=done["tokens"])
    with bar, _encoder(options.processes, encoding) as encode:
        while some := list(islice(rest, AT_ONCE)):
            for (split, _), ids in zip(some, encode([text for _, text in some])):
                pending[split].append(ids)
                done["documents"] += 1
                done["tokens"] += len(ids)
                bar.update(len(ids))
                if sum(map(len, pending["train"])) >= options.shard_tokens:
                    _flush(options.out, pending, done, encoding)
    if not done["tokens"]:
        raise ValueError(f"there is no text in {options.source}")
    done["finished"] = options.limit is None
    _flush(options.out, pending, done, encoding)


def _with_splits(documents: Iterable[str], val_share: float) -> Iterator[tuple[str, str]]:
    """Each document and the split it goes to; a single one's end is held out.

    Chosen by a document's number alone, so that a run that goes on chooses the same.
    """
    documents = iter(documents)
    first, second = next(documents, ""), next(documents, None)
    if second is None:
        cut = len(first) - int(len(first) * val_share)
        yield from [("train", first[:cut]), ("val", first[cut:])][: 1 + (cut < len(first))]
        return
    for number, text in enumerate(chain([first, second], documents)):
        digest = hashlib.sha256(str(number).encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") < val_share * 2**64
        yield "val" if held_out else "train", text


@contextmanager
def _encoder(
    processes: int, encoding: Encoding
) -> Iterator[Callable[[list[str]], list[np.ndarray]]]:
    """A function from texts to their ids, in order, that several processes work for."""
    if processes == 1:
        yield lambda texts: [_ids(encoding, text) for text in texts]
        return
    with get_context("spawn").Pool(processes, _start, (encoding.kept,)) as pool:
        yield lambda texts: pool.map(_encoded, texts, chunksize=8)


def _start(kept: dict) -> None:
    global _encoding_here
    _encoding_here = Encoding.of(kept)


def _encoded(text: str) -> np.ndarray:
    return _ids(_encoding_here, text)


def _ids(encoding: Encoding, text: str) -> np.ndarray:
    """A document's ids, behind the one that ends what came before."""
    start = [] if encoding.end is None else [encoding.end]
    return np.array([*start, *encoding.encode(text)], dtype=np.uint16)


def _begin(options: Prepare, encoding: Encoding) -> dict:
    """What is done already. ValueError where it was done with other options."""
    made_with = {**asdict(options), "out": None, "processes": None, "limit": None}
    path = options.out / NOTE
    if path.exists():
        note = json.loads(path.read_text("utf-8"))
        if note["options"] != made_with or note["encoding"] != encoding.name:
            changed = [k for k, v in made_with.items() if note["options"].get(k) != v]
            raise ValueError(
                f"{options.out} was begun with other options ({', '.join(changed) or 'encoding'}); "
                "give the same ones to go on, or another folder"
            )
        for shard in options.out.glob("*.part"):
            shard.unlink()
        return note
    if any(options.out.glob("*.tokens")):
        raise ValueError(f"{options.out} holds shards but no {NOTE}; give another folder")
    encoding.save(options.out)
    return {
        "options": made_with,
        "encoding": encoding.name,
        "documents": 0,
        "tokens": 0,
        "shards": 0,
        "finished": False,
    }


def _flush(out: Path, pending: dict[str, list[np.ndarray]], done: dict, encoding: Encoding) -> None:
    """Write what is pending as shards, then note it. Cut short in between, the next call writes
    the same shards again."""
    for split, documents in pending.items():
        if documents:
            path = out / f"{split}_{done['shards']:05}.tokens"
            write_shard(path, np.concatenate(documents), encoding.name)
            documents.clear()
    done["shards"] += 1
    part = out / f"{NOTE}.part"
    part.write_text(json.dumps(done, indent=2), "utf-8")
    os.replace(part, out / NOTE)


def _encoding(options: Prepare) -> Encoding:
    if (options.out / FILE).exists():
        return Encoding.load(options.out)
    text = None
    if options.encoding == "chars" or options.encoding.startswith("learn:"):
        if options.source.startswith("hf:"):
            raise ValueError(
                f"{options.encoding} reads the whole text first, and {options.source} is streamed; "
                "save a tokenizer that learned from a part of it, and give its path"
            )
        text = "".join(documents_of(options.source, column=options.column))
    return Encoding.named(options.encoding, text)


def main(arguments: list[str] | None = None) -> int:
    """Prepare by the command line; a mistake in the options ends it with one line."""
    options = tyro.cli(Prepare, args=arguments, prog="python -m companion.pretrain.prepare")
    try:
        prepare(options)
    except (ValueError, OSError, assets.AssetError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
