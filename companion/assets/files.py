"""Public files of which every byte is known: found, verified, fetched. GPT-2's encoding is two."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken


class AssetError(RuntimeError):
    """An asset that is missing, altered or out of reach: what is wrong, where, and what to do.

    Not an OSError, though most of its causes are: code that makes do without a missing file must
    not make do without an altered one by accident.
    """

    def __init__(self, what: str, where: object, todo: str) -> None:
        super().__init__(what, where, todo)

    def __str__(self) -> str:
        what, where, todo = self.args
        return f"{what}\n  where: {where}\n  to do: {todo}"


@dataclass(frozen=True)
class Pin:
    """One public file: whose it is, its name in our folders, its source, its only right bytes."""

    asset: str
    file: str
    url: str
    size: int
    sha256: str


def _gpt2_pin(file: str, size: int, sha256: str) -> Pin:
    url = f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{file}"
    cached_as = hashlib.sha1(url.encode()).hexdigest()  # tiktoken's rule
    return Pin("gpt2-encoding", cached_as, url, size, sha256)


# What tiktoken's own source says of these files; a test holds the one to the other.
VOCAB_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
ENCODER_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
ENCODINGS = {
    "gpt2": (
        _gpt2_pin("vocab.bpe", 456_318, VOCAB_SHA256),
        _gpt2_pin("encoder.json", 1_042_301, ENCODER_SHA256),
    )
}


def assets_folder() -> Path | None:
    """The folder of copies that COMPANION_ASSETS names, or None where that is unset or empty."""
    if not (named := os.environ.get("COMPANION_ASSETS")):
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise AssetError("COMPANION_ASSETS names no folder", folder, "correct it, or unset it")
    return folder


def cache_folder() -> Path:
    """Where fetched files are kept: COMPANION_CACHE, or our folder in the system's cache."""
    if named := os.environ.get("COMPANION_CACHE"):
        return Path(named).expanduser()
    import pooch

    return pooch.os_cache("first-questions")


def command(asset: str) -> str:
    """What to type to fetch an asset."""
    return f"python -m companion.assets {asset}"


def find(pin: Pin, folders: Iterable[Path]) -> Path | None:
    """The file in the first folder that has it, verified; None where no folder has it."""
    for folder in folders:
        path = folder / pin.file
        if os.path.lexists(path):  # true of a link to nothing: that is a broken copy, not none
            return verified(path, pin)
    return None


def verified(path: Path, pin: Pin) -> Path:
    """The path itself, once the bytes there have given the pinned SHA-256; else an AssetError."""
    todo = f"delete that file, then run: {command(pin.asset)}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AssetError(f"{pin.asset}: a file cannot be read: {error}", path, todo) from error
    found = hashlib.sha256(data).hexdigest()
    if found != pin.sha256:
        raise AssetError(
            f"{pin.asset}: {path.name} is altered or cut short: "
            f"{len(data):,} bytes with SHA-256 {found[:12]}..., "
            f"expected {pin.size:,} bytes with {pin.sha256[:12]}...",
            path,
            todo,
        )
    return path


def download(pin: Pin, folder: Path) -> Path:
    """Fetches the file into the folder, with a progress bar; nothing but the pinned bytes stays."""
    import pooch

    try:
        pooch.retrieve(pin.url, f"sha256:{pin.sha256}", pin.file, folder, progressbar=True)
    except (OSError, ValueError) as error:  # out of reach, cut short, no such page; or other bytes
        raise AssetError(
            f"{pin.asset} is not on this machine and could not be fetched: {error}",
            f"{pin.url}, to be kept in {folder}",
            f"with a network, run: {command(pin.asset)}; "
            f"without one, put a copy in that folder, by the name {pin.file}",
        ) from error
    return folder / pin.file


def encoding(name: str = "gpt2") -> "tiktoken.Encoding":
    """GPT-2's released encoding of 50,257 tokens, as tiktoken has it; no other name is known.

    Its two files are taken from the first folder that has both: COMPANION_ASSETS/tiktoken, then
    TIKTOKEN_CACHE_DIR or, where that is not set, tiktoken/ in our cache. What that last folder
    lacks is fetched into it. Both files are verified before tiktoken sees them, since tiktoken
    deletes a file that is not as expected and fetches it again unasked.
    """
    if name not in ENCODINGS:
        raise ValueError(f"encoding {name!r} is none of {', '.join(ENCODINGS)}")
    import tiktoken

    for folder in encoding_folders():
        missing = [pin for pin in ENCODINGS[name] if find(pin, [folder]) is None]
        if not missing:
            break
    for pin in missing:
        download(pin, folder)
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def encoding_folders() -> list[Path]:
    """Where an encoding's files may lie, in order; what is fetched goes to the last."""
    copies = assets_folder()
    own = os.environ.get("TIKTOKEN_CACHE_DIR") or cache_folder() / "tiktoken"
    return [*([copies / "tiktoken"] if copies else []), Path(own)]


def encoding_on_this_machine(name: str) -> bool:
    """Whether one folder has all of an encoding's files, unverified."""
    return any(
        all(os.path.lexists(folder / pin.file) for pin in ENCODINGS[name])
        for folder in encoding_folders()
    )
