"""BERT's masks, the words that it has to guess, and its pairs of sentences."""

# Exported from lessons/21_bert_inputs.md: edit that, then run `make lessons`.

__all__ = [
    "IGNORED",
    "Batch",
    "Encoded",
    "SentencePair",
    "additive_mask",
    "mask_tokens",
    "padding_mask",
    "sentence_pairs",
]

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def padding_mask(ids: Int[Tensor, "B T"], pad_id: int) -> Bool[Tensor, "B T"]:
    """Which tokens may be looked at: True for a token, False for padding."""
    return ids != pad_id


def additive_mask(
    mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B 1 1 T"]:
    """To add to scores (B, nh, T, T): 0 where a key may be seen, else the least number.

    `mask` (B, T) is True, or 1, at tokens. TypeError for other numbers; ValueError
    for another shape, or a row with no token to see: the wrong polarity has such rows.
    """
    seen = _checked(mask)
    if not dtype.is_floating_point:
        raise TypeError(f"{dtype=} should be the dtype of the scores, a floating one")
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    hidden = torch.finfo(dtype).min
    return added.masked_fill(~seen, hidden)[:, None, None, :]  # (B, 1, 1, T)


def _checked(mask: Tensor) -> Bool[Tensor, "B T"]:
    """A padding mask as True and False; a wrong one is named."""
    if mask.dim() != 2:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}; one of padding is (B, T)")
    if mask.is_floating_point() or (mask.dtype != torch.bool and (mask & ~1).any()):
        raise TypeError(
            f"the mask is {mask.dtype} from {mask.min()} to {mask.max()}; it should be "
            "boolean, or 1 at tokens and 0 at padding"
        )
    seen = mask.bool()
    if not seen.any(dim=1).all():
        row = int((~seen.any(dim=1)).nonzero()[0])
        raise ValueError(
            f"row {row} of the mask has no token to see; True stands at tokens. Is it "
            "the other way round?"
        )
    return seen


IGNORED = -100  # what cross_entropy leaves out


def mask_tokens(
    ids: Int[Tensor, "B T"],
    *,
    mask_id: int,
    vocab_size: int,
    special_ids: Collection[int],
    p: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Ids with some to guess, and the labels: the right id there, -100 elsewhere.

    Each token but a special one is chosen with probability p. Of these, 80 % become
    `mask_id`, 10 % any id below `vocab_size`, and 10 % stay. `ids` are not changed.
    Chance may choose none: the mean loss over no token is nan.
    ValueError for a p outside 0 to 1, or a mask_id that is none of special_ids.
    Source: Devlin et al. 2018, appendix A.1; the release draws 15 %
    of a row's length, rounded.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"{p=} should be a probability, 0 to 1")
    if mask_id not in special_ids:
        raise ValueError(f"{mask_id=} should be one of the special ids, {special_ids}")
    special = torch.isin(ids, torch.tensor(list(special_ids), device=ids.device))
    chance, kind = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    drawn = torch.randint(vocab_size, ids.shape, generator=generator).to(ids)
    chosen = ~special & (chance < p)
    labels = ids.masked_fill(~chosen, IGNORED)
    inputs = ids.masked_fill(chosen & (kind < 0.8), mask_id)
    inputs = torch.where(chosen & (kind >= 0.9), drawn, inputs)
    return inputs, labels


class SentencePair(NamedTuple):
    """Two segments; the label is 0 where the second follows the first, else 1."""

    first: str
    second: str
    label: int


def sentence_pairs(
    documents: Sequence[Sequence[str]],
    *,
    sentences: int = 1,
    same_document: bool = False,
    generator: torch.Generator | None = None,
) -> list[SentencePair]:
    """Each segment but a document's last, with the next or a random one, by a coin.

    A segment is so many `sentences` of a document, its last what is left. The random
    one is of another document; with `same_document` of the same one, and neither the
    first itself nor the next. Labels are the release's: 0 is next, 1 is random.
    ValueError where there is nothing to draw from.
    """
    least = 3 if same_document else 2  # segments that a document must have
    documents = _segments(documents, sentences, same_document, least)

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    pairs = []
    for n, document in enumerate(documents):
        if len(document) < least:
            continue
        for at in range(len(document) - 1):
            label = below(2)
            if label == 0:
                second = document[at + 1]
            elif same_document:
                other = below(len(document) - 2)
                second = document[other if other < at else other + 2]
            else:
                other = below(len(documents) - 1)
                strangers = documents[other if other < n else other + 1]
                second = strangers[below(len(strangers))]
            pairs.append(SentencePair(document[at], second, label))
    return pairs


def _segments(
    documents: Sequence[Sequence[str]], sentences: int, same_document: bool, least: int
) -> list[list[str]]:
    """Each document in segments of so many sentences; too few to draw from is named."""
    if any(isinstance(document, str) for document in documents):
        raise TypeError("a document should be a list of sentences, and one is a string")
    if sentences < 1:
        raise ValueError(f"{sentences=} should be at least 1")
    documents = [
        [" ".join(some[at : at + sentences]) for at in range(0, len(some), sentences)]
        for some in documents
        if len(some) > 0
    ]
    if not same_document and len(documents) < 2:
        raise ValueError(f"{len(documents)} documents have sentences; a random one needs another")
    if not any(len(document) >= least for document in documents):
        raise ValueError(f"no document has {least} segments or more")
    return documents


class Encoded(NamedTuple):
    """One text, or a pair: each token's id, segment (0 or 1) and place in its text."""

    ids: list[int]
    token_type_ids: list[int]
    offsets: list[tuple[int, int]]


class Batch(NamedTuple):
    """Texts padded to one length, in BERT's own order; True is a token to see."""

    ids: Int[Tensor, "B T"]
    attention_mask: Bool[Tensor, "B T"]
    token_type_ids: Int[Tensor, "B T"]
