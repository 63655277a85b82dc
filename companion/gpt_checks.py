"""What a GPT refuses: sizes that cannot be built, and ids that it cannot read."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = ["check_ids", "check_reading", "check_sizes"]

from typing import Any

import torch
from torch import Tensor

from companion.attention import KVCache
from companion.loss import IDS


def check_sizes(config: Any) -> None:
    """Raise ValueError where a config's fields are no model's."""
    for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
        size = getattr(config, name)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}={size!r} should be a whole number, at least 1")
    if config.n_embd % config.n_head:
        raise ValueError(
            f"n_embd={config.n_embd} is not divisible by n_head={config.n_head}; each "
            "head needs n_embd / n_head channels"
        )
    if not isinstance(config.dropout, int | float) or not 0 <= config.dropout < 1:
        raise ValueError(f"dropout={config.dropout!r} should be at least 0 and under 1")
    for name in ("bias", "tied"):
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name}={getattr(config, name)!r} should be True or False")


def check_reading(ids: Tensor, config: Any, cache: list[KVCache] | None) -> None:
    """Raise where ids, behind what a cache has read, are not for this model.

    ValueError for no token, more than block_size, a cache of another model, or, on the
    CPU, an id outside the vocabulary; TypeError for ids that are not integers.
    """
    check_ids(ids, config.vocab_size)
    if cache is not None and len(cache) != config.n_layer:
        raise ValueError(f"{len(cache)} caches for {config.n_layer} layers; new_cache() makes them")
    end = ids.shape[1] + (cache[0].length if cache else 0)
    if end > config.block_size:
        raise ValueError(
            f"{end} tokens are more than block_size={config.block_size}: no "
            "position was learned for the last ones"
        )


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise where ids are not (B, T) integers, one or more, in the vocabulary."""
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(
            f"ids have shape {tuple(ids.shape)}; they should be (B, T), a token or more"
        )
    if ids.dtype not in IDS:
        raise TypeError(f"ids are {ids.dtype}; they should be integers, torch.long")
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return  # looking at values would make a GPU wait, or break the graph
    low, high = (x.item() for x in ids.aminmax())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"id {low if low < 0 else high} is not in the vocabulary; ids go from 0 to "
            f"{vocab_size - 1}"
        )
