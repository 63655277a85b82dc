"""A BERT from a release's files and back, with heads or without."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Released", "absent_heads", "fitting", "own_tensors"]

import warnings
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from companion.assets import model_folder
from companion.bert_config import BertConfig
from companion.bert_format import (
    head_of,
    our_settings,
    plain_name,
    plain_tensors,
    their_settings,
)
from companion.release import fill_, read_settings, read_tensors, write_release


class Released(nn.Module):
    """A BERT, bare or with heads, that is loaded from a release and saved as one."""

    config: BertConfig

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        config: BertConfig | None = None,
        new_heads: bool = False,
        **changes: Any,
    ) -> "Released":
        """A model from a folder of config.json and weights, or a release by name.

        Names: bert-base-uncased, all-MiniLM-L6-v2, or any BERT on the hub, owner/name.
        Weights are safetensors or, in a folder that has none, pytorch_model.bin, read
        with weights_only. In float32 and eval mode. `changes` replace fields of the
        config (dropout=0.0, num_labels=3). Heads of the release that this model does
        not have are left; one that the release lacks is an error or, with `new_heads`,
        begins at random, and a warning names it.
        The number of heads of attention stands in config.json alone: without that file,
        give a `config`. ValueError for a model that is no BERT, or for tensors that are
        missing, left over or of another shape, all named at once.
        """
        folder = Path(source)
        if not folder.is_dir():
            if isinstance(source, Path):
                raise FileNotFoundError(f"there is no folder {source}")
            folder = model_folder(source)
        if config is not None:
            config = replace(config, **changes)
        else:
            config = BertConfig(**our_settings(_settings(folder), changes))
        with torch.random.fork_rng(devices=[]):
            model = cls(config)
        tensors = plain_tensors(read_tensors(folder, legacy=True))
        if absent := absent_heads(model, tensors):
            named = f"the checkpoint has no {', '.join(absent)}"
            if new_heads:
                warnings.warn(f"{named}: begun at random", stacklevel=2)
                tensors |= own_tensors(model, absent)
        try:
            fill_(model, fitting(model, tensors))
        except ValueError as error:
            if not absent or new_heads:
                raise
            raise ValueError(
                f"{error}\n{named}, which {cls.__name__} has; new_heads=True begins "
                "it at random, to be trained"
            ) from None
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors; transformers loads them."""
        name = type(self).__name__
        settings = their_settings(asdict(self.config), "BertModel" if name == "Bert" else name)
        tensors = {name: x.detach() for name, x in self.named_parameters()}
        write_release(Path(folder), settings, tensors)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return read_settings(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} has no config.json. Sizes show in the tensors' shapes; the "
            "number of attention heads does not: any that divides hidden_size would "
            "load, and all but one compute something else. Give it: "
            "config=BertConfig(...)"
        ) from error


def absent_heads(model: nn.Module, tensors: Collection[str]) -> list[str]:
    """A model's heads that a checkpoint has nothing of; half a one is not absent."""
    had, given = (
        {head_of(name) for name in names} for names in (dict(model.named_parameters()), tensors)
    )
    return sorted(had - given - {None})


def own_tensors(model: nn.Module, heads: Collection[str]) -> dict[str, Tensor]:
    """What these heads of a model are now, by plain names."""
    own = {plain_name(name): p for name, p in model.named_parameters()}
    return {name: p.detach() for name, p in own.items() if head_of(name) in heads}


def fitting(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the model's own names, without those of heads that it lacks."""
    own = {plain_name(name): name for name, _ in model.named_parameters()}
    had = {None, *map(head_of, own)}
    return {own.get(n, n): x for n, x in tensors.items() if head_of(n) in had}
