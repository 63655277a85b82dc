"""Token shards: files of ids that say what they are, and are refused where they are not that.

A shard is 256 bytes of header and then `count` ids, two bytes each, little-endian. The header holds
a magic number, a version, the count, the encoding's name and a SHA-256 of all that and of the ids.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["HEADER_BYTES", "Shard", "ShardError", "shards_in", "write_shard"]

HEADER_BYTES = 256
MAGIC, VERSION = b"FQTOKENS", 1
_FIELDS = struct.Struct("<8sIQ64s")  # magic, version, count, encoding; the digest follows
_IDS = np.dtype("<u2")
_CHUNK = 1 << 24


class ShardError(ValueError):
    """A file that is no shard, or not the shard that it says it is."""


@dataclass(frozen=True)
class Shard:
    """One file of ids: `count` of them, of an encoding. Opened by name; read through `ids`."""

    path: Path
    count: int
    encoding: str

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> "Shard":
        """Read a shard's header, and all of it to verify that nothing was altered.

        ShardError, with the file's name, for a file that is short or long, altered, or no shard.
        """
        with path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise ShardError(f"{path} is no token shard: it does not begin with {MAGIC.decode()}")
        _, version, count, encoding = _FIELDS.unpack_from(header)
        if version != VERSION:
            raise ShardError(f"{path} is a shard of version {version}; this reads {VERSION}")
        size, expected = path.stat().st_size, HEADER_BYTES + count * _IDS.itemsize
        if size != expected:
            what = "cut short" if size < expected else "longer than it says"
            raise ShardError(f"{path} is {what}: {size:,} bytes, {count:,} ids take {expected:,}")
        if verify and header[_FIELDS.size : _FIELDS.size + 32] != _digest(path):
            raise ShardError(f"{path} was altered: its SHA-256 is not the one in its header")
        return cls(path, count, encoding.rstrip(b"\0").decode("utf-8", "replace"))

    @property
    def ids(self) -> np.ndarray:
        """All ids, (count,) of uint16, mapped and not read: memory holds what is asked for."""
        return np.memmap(self.path, _IDS, "r", HEADER_BYTES, (self.count,))


def write_shard(path: Path, ids: np.ndarray, encoding: str) -> Shard:
    """Write ids as a shard, whole or not at all.

    ValueError for no ids, for what does not fit two bytes, or for a name over 64 bytes.
    """
    ids, name = np.asarray(ids), encoding.encode("utf-8")
    if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError("ids should be a row of whole numbers, one or more")
    if ids.min() < 0 or ids.max() >= 2**16:
        raise ValueError(f"ids go from {ids.min()} to {ids.max()}; a shard holds 0 to 65,535")
    if not 0 < len(name) <= 64:
        raise ValueError(f"{encoding=} should be a name of at most 64 bytes")
    part = path.with_name(path.name + ".part")
    with part.open("w+b") as stream:
        stream.write(_FIELDS.pack(MAGIC, VERSION, ids.size, name).ljust(HEADER_BYTES, b"\0"))
        stream.write(ids.astype(_IDS).tobytes())
        stream.flush()
        digest = _digest(part)
        stream.seek(_FIELDS.size)
        stream.write(digest)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
    return Shard(path, int(ids.size), encoding)


def shards_in(folder: Path, split: str, *, encoding: str | None = None) -> list[Shard]:
    """A folder's shards of a split ("train", "val"), in the order of their numbers, verified.

    FileNotFoundError where there is none; ShardError for one that is damaged or, by name, one of
    another encoding than `encoding`, or than the first.
    """
    paths = sorted(folder.glob(f"{split}_*.tokens"))
    if not paths:
        raise FileNotFoundError(
            f"there are no {split} shards in {folder}; make some: "
            "python -m companion.pretrain.prepare --help"
        )
    shards = [Shard.open(path) for path in paths]
    wanted = encoding or shards[0].encoding
    for shard in shards:
        if shard.encoding != wanted:
            raise ShardError(f"{shard.path} holds ids of {shard.encoding!r}, not of {wanted!r}")
    return shards


def _digest(path: Path) -> bytes:
    """SHA-256 of a shard, the place of the digest itself left out."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        found.update(stream.read(_FIELDS.size))
        stream.seek(HEADER_BYTES)
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.digest()
