"""The sizes of a BERT, and what it refuses to read."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["BertConfig", "check_reading"]

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from companion.gpt_checks import check_ids


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT, by the release's names; the defaults are
    bert-base-uncased's, but for `dropout`, which is 0.

    `dropout` is in all its places; `num_labels` is what a sequence is classified into.
    ValueError for what cannot be built.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    dropout: float = 0.0
    num_labels: int = 2

    def __post_init__(self) -> None:
        for name in [one.name for one in fields(self) if one.name != "dropout"]:
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name}={size!r} should be a whole number, at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by "
                f"num_attention_heads={self.num_attention_heads}; each head needs "
                "their "
                "quotient in channels"
            )
        rate = self.dropout
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise ValueError(f"dropout={rate!r} should be a number")
        if not 0 <= rate < 1:
            raise ValueError(f"dropout={rate!r} should be at least 0 and under 1")


def check_reading(
    ids: Tensor, mask: Tensor | None, types: Tensor | None, config: BertConfig
) -> None:
    """Raise where ids, attention mask and token types are not for this BERT.

    ValueError for no token, more than it has positions for, an id or a type out of
    range (on the CPU: on a GPU its kernel asserts them), a mask or types of another
    shape, and a mask that hides a text's first token; TypeError where they are not
    integers. A mask of the wrong polarity hides the first token of any padded batch.
    """
    check_ids(ids, config.vocab_size)
    if ids.shape[1] > config.max_position_embeddings:
        raise ValueError(
            f"{ids.shape[1]} tokens are more than "
            f"max_position_embeddings={config.max_position_embeddings}: no position "
            "was "
            "learned for the last ones"
        )
    for name, given in (("attention_mask", mask), ("token_type_ids", types)):
        if given is not None and given.shape != ids.shape:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}; it should be that of ids, "
                f"{tuple(ids.shape)}: a number for each token"
            )
    if types is not None:
        _check_types(types, config.type_vocab_size)
    if mask is None or torch.compiler.is_compiling():
        return
    if mask.is_floating_point():
        raise TypeError(
            f"attention_mask is {mask.dtype}; it should be boolean, or 1 at tokens and "
            "0 at padding, (B, T). The model itself makes of it what is added to scores"
        )
    if mask.dtype != torch.bool and (mask & ~1).any():
        raise ValueError(
            f"attention_mask goes from {mask.min()} to {mask.max()}; it should be 1 at "
            "tokens and 0 at padding"
        )
    if not mask[:, 0].all():
        row = int((mask[:, 0] == 0).nonzero()[0])
        raise ValueError(f"row {row} of attention_mask hides the text's first token, {_why(mask)}")


def _why(mask: Tensor) -> str:
    if not mask.any():
        return "and no row has a token to see"
    return (
        "where BERT's [CLS] stands; True stands at tokens and False at padding, and "
        "padding comes behind. Is the mask the other way round?"
    )


def _check_types(types: Any, type_vocab_size: int) -> None:
    try:
        check_ids(types, type_vocab_size)
    except (ValueError, TypeError) as error:
        raise type(error)(f"token_type_ids: {error}") from None
