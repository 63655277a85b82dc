"""Released models: a folder of safetensors, config and tokenizer files, verified; no pickles."""

import hashlib
import os
from fnmatch import fnmatch
from pathlib import Path

from .files import AssetError, assets_folder

MODELS = {  # our name: its name on the hub
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "bert-base-uncased": "google-bert/bert-base-uncased",
}

FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
]


def model_folder(name: str, *, revision: str = "main") -> Path:
    """The folder of a released model: one of MODELS, or any other "owner/name" on the hub.

    Looked for in COMPANION_ASSETS/models/NAME/, then in the hub's cache, then fetched. "main" is
    what it was on the day it was fetched. To pin a model, give a commit of its repository, all 40
    digits: `model_folder("gpt2", revision="...")`. A plain copy in COMPANION_ASSETS tells nothing
    of revisions, and serves "main" only.

    Verified at every call: each safetensors file ends where its header says, and each file in the
    hub's cache gives the hash it is kept under (about a second per GB); else an AssetError, as for
    a model out of reach. A plain copy has no hashes, nor has the cache where links are not allowed.
    """
    if name not in MODELS and name.count("/") != 1:
        raise ValueError(f"model {name!r} is none of {', '.join(MODELS)}, and no 'owner/name'")
    folder = _copied(name, revision) or _cached(name, revision) or _fetched(name, revision)
    if not _is_whole(folder):
        raise AssetError(
            f"{name}: config.json or the safetensors are missing",
            folder,
            f"add them; or delete the folder and, with a network, {_again(name, revision)}",
        )
    for path in _files(folder):
        if damage := _damage(path):
            # The hub's client fetches a lost file again; in a plain copy nobody does.
            lost = folder if folder == _copied(name, revision) else path.resolve()
            raise AssetError(
                f"{name}: {path.name} is altered, cut short or unreadable: {damage}",
                path,
                f"delete {lost}, then, with a network, {_again(name, revision)}",
            )
    return folder


def on_this_machine(name: str) -> bool:
    """Whether a model's "main" can be had with no network, unverified."""
    folder = _copied(name, "main")
    return _is_whole(folder) if folder else _cached(name, "main") is not None


def _copied(name: str, revision: str) -> Path | None:
    copies = assets_folder()
    folder = copies / "models" / name if copies and revision == "main" else None
    return folder if folder and folder.is_dir() else None


def _cached(name: str, revision: str) -> Path | None:
    """The model's folder in the hub's cache, None where it is not there whole. No network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"revision": revision, "allow_patterns": FILES, "local_files_only": True}
    for repo in dict.fromkeys([_hub_name(name), name]):  # older caches know it as plain "gpt2"
        try:
            folder = Path(snapshot_download(repo, **wanted))
        except LocalEntryNotFoundError:
            continue
        if _is_whole(folder):  # another program may have fetched the tokenizer alone
            return folder
    return None


def _fetched(name: str, revision: str) -> Path:
    from huggingface_hub import constants, snapshot_download

    repo = _hub_name(name)
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=FILES))
    except Exception as error:  # the client's errors and its HTTP library's have no common base
        raise AssetError(
            f"{name} at {revision} is not on this machine and could not be fetched: {error}",
            f"models/{name} in COMPANION_ASSETS, {constants.HF_HUB_CACHE}, "
            f"{constants.ENDPOINT}/{repo}",
            f"with a network and HF_HUB_OFFLINE unset, {_again(name, revision)}; or copy "
            f"config.json, model.safetensors and the tokenizer's files from elsewhere to "
            f"models/{name} in a folder that COMPANION_ASSETS names",
        ) from error


def _again(name: str, revision: str) -> str:
    if revision == "main":
        return f"run: python -m companion.assets {name}"
    return f"call model_folder({name!r}, revision={revision!r}) again"


def _hub_name(name: str) -> str:
    return MODELS.get(name, name)


def _files(folder: Path) -> list[Path]:
    """The files we ask for, and none that another program may have put beside them."""
    inside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return [inside[name] for name in sorted(inside) if any(fnmatch(name, like) for like in FILES)]


def _is_whole(folder: Path) -> bool:
    """Whether config and weights are there, and no file is a link whose target is gone."""
    files = _files(folder)
    weights = any(path.suffix == ".safetensors" for path in files)
    return weights and folder / "config.json" in files and all(map(Path.is_file, files))


def _damage(path: Path) -> str | None:
    try:
        return _wrong_length(path) or _wrong_hash(path)
    except OSError as error:
        return str(error)


def _wrong_length(path: Path) -> str | None:
    """What is wrong with a safetensors file that does not end where its header says."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # reads the header and compares, no tensor
            return None
    except SafetensorError as error:
        return f"{path.stat().st_size:,} bytes, not what its header says ({error})"


def _wrong_hash(path: Path) -> str | None:
    """What is wrong with a file in the hub's cache that does not give the hash it is kept under.

    There a file is a link to blobs/HASH: SHA-256 where it is large, git's SHA-1 where it is small.
    """
    kept = Path(os.readlink(path)) if path.is_symlink() else path
    size = path.stat().st_size
    algorithms = {64: hashlib.sha256, 40: lambda: hashlib.sha1(b"blob %d\0" % size)}
    if kept.parent.name != "blobs" or len(kept.name) not in algorithms:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithms[len(kept.name)]).hexdigest()
    if found == kept.name:
        return None
    return f"{size:,} bytes that hash to {found[:12]}..., expected {kept.name[:12]}..."
