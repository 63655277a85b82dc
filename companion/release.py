"""A released model's files: config.json and safetensors, read whole or refused."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = ["PICKLES", "fill_", "read_release", "read_settings", "read_tensors", "write_release"]

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_release(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings in a folder's config.json, and every tensor of its safetensors.

    Errors as `read_settings` and `read_tensors`.
    """
    return read_settings(folder), read_tensors(folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """What config.json says. FileNotFoundError for none; ValueError for no settings."""
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds {type(settings).__name__}, not settings by name")
    return settings


def read_tensors(folder: Path, *, legacy: bool = False) -> dict[str, Tensor]:
    """Every tensor of a folder's safetensors.

    FileNotFoundError where there are none; ValueError for a damaged file, and for a
    pickle, whatever its name. With `legacy`, a folder without safetensors may have
    pytorch_model.bin instead: read for tensors alone, and none of its code is run.
    """
    pickle = folder / "pytorch_model.bin"
    if legacy and pickle.exists() and not any(folder.glob("*.safetensors")):
        return _read_pickle(pickle)
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        tensors.update(_read_tensors(file))
    return tensors


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, which refuses whatever is not one."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of any bytes can set off
        raise ValueError(
            f"{file} is damaged, or holds more than tensors, and is not loaded: {error}"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(x, Tensor) for name, x in tensors.items()
    ):
        raise ValueError(f"{file} holds {type(tensors).__name__}, not tensors by name")
    return dict(tensors)


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the parts that its index names."""
    index = folder / "model.safetensors.index.json"
    if (whole := folder / "model.safetensors").exists():
        return [whole]
    if index.exists():
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            return [folder / Path(name).name for name in sorted(names)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is no index of safetensors: {error!r}") from error
    pickles = [file.name for file in folder.iterdir() if file.suffix in PICKLES]
    if pickles:
        raise ValueError(
            f"{folder} has weights as a pickle only ({', '.join(sorted(pickles))}), "
            "which can run code when it is loaded; get model.safetensors, or convert "
            "it where you trust it"
        )
    raise FileNotFoundError(f"{folder} has no model.safetensors")


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        with file.open("rb") as stream:
            is_pickle = stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
        what = "a pickle by another name" if is_pickle else "damaged or cut short"
        raise ValueError(f"{file} is {what}, and is not loaded: {error}") from error


@torch.no_grad()
def fill_(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors into the parameters of these names; a tied one is filled once.

    ValueError names all that are missing, left over, of another shape or not floats,
    and then nothing is copied.
    """
    parameters = dict(model.named_parameters())
    wrong = [f"missing: {name}" for name in parameters if name not in tensors]
    wrong += [f"left over: {name}" for name in tensors if name not in parameters]
    for name in parameters.keys() & tensors.keys():
        ours, theirs = parameters[name], tensors[name]
        if ours.shape != theirs.shape:
            shapes = f"{tuple(theirs.shape)}, expected {tuple(ours.shape)}"
            wrong.append(f"another shape: {name} is {shapes}")
        elif not theirs.is_floating_point():
            wrong.append(f"not floats: {name} is {theirs.dtype}")
    if wrong:
        raise ValueError("the checkpoint does not fit the model\n" + "\n".join(sorted(wrong)))
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def write_release(folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write config.json and model.safetensors, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as place:
        weights, config = Path(place, "model.safetensors"), Path(place, "config.json")
        contiguous = {name: x.contiguous() for name, x in tensors.items()}
        save_file(contiguous, weights, metadata={"format": "pt"})
        config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
        weights.chmod(config.stat().st_mode)  # safetensors keeps it from other users
        for file in (weights, config):
            os.replace(file, folder / file.name)
