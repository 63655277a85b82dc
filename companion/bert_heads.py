"""BERT with what is put on top: masked words, the next sentence, a class."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = [
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "Heads",
    "Mask",
    "PreTrainingOutput",
    "Predictions",
    "Transform",
    "fill_in",
    "word_loss",
]

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.bert import Bert, init_bert_
from companion.bert_config import BertConfig
from companion.bert_inputs import IGNORED
from companion.bert_layers import EPS
from companion.bert_loading import Released
from companion.tying import tie_weights

Mask = Bool[Tensor, "B T"] | Int[Tensor, "B T"]


class Transform(nn.Module):
    """What each token's numbers go through before they are compared with the words."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=EPS)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(nn.Module):
    """Logits over the vocabulary: the word table's own weight, and a bias."""

    def __init__(self, config: BertConfig, words: nn.Embedding) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder.bias.data.zero_()
        tie_weights(words, self.decoder)
        init_bert_(self.transform)
        self.bias = self.decoder.bias  # one Parameter: releases have either name

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B V"]:
        return self.decoder(self.transform(x))


class Heads(nn.Module):
    """The heads of pre-training, by the release's names; either or both."""

    def __init__(self, bert: Bert, *, words: bool, pairs: bool) -> None:
        super().__init__()
        config = bert.config
        if words:
            self.predictions = Predictions(config, bert.embeddings.word_embeddings)
        if pairs:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)
            init_bert_(self.seq_relationship)


class BertForMaskedLM(Released):
    """Logits for the word at each place; given labels, their mean loss."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config, pooler=False)
        self.cls = Heads(self.bert, words=True, pairs=False)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        attention_mask: Mask | None = None,
        token_type_ids: Int[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, ""]:
        """`labels` are as `mask_tokens` makes them: -100 where there is none.

        Logits are computed only where a label is. No label: nan, a mean over nothing.
        """
        x = self.bert(ids, attention_mask, token_type_ids).last_hidden_state
        if labels is None:
            return self.cls.predictions(x)
        return word_loss(self.cls.predictions, x, labels)


def word_loss(
    predictions: Predictions, x: Float[Tensor, "B T C"], labels: Int[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """The mean cross-entropy of the labels that are not -100."""
    if labels.shape != x.shape[:2]:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; they should have {tuple(x.shape[:2])}"
        )
    asked = labels != IGNORED
    return F.cross_entropy(predictions(x[asked]), labels[asked].long())


class BertForNextSentencePrediction(Released):
    """Two logits a pair, (B, 2): the second text follows, or is a random one."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.cls = Heads(self.bert, words=False, pairs=True)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        attention_mask: Mask | None = None,
        token_type_ids: Int[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B 2"] | Float[Tensor, ""]:
        """`labels` are 0 where the second text follows the first, else 1."""
        pooled = self.bert(ids, attention_mask, token_type_ids).pooled
        logits = self.cls.seq_relationship(pooled)
        return logits if labels is None else F.cross_entropy(logits, labels.long())


class PreTrainingOutput(NamedTuple):
    """Logits for the word at each place, and for whether the second text follows."""

    prediction_logits: Float[Tensor, "B T V"]
    seq_relationship_logits: Float[Tensor, "B 2"]


class BertForPreTraining(Released):
    """Both heads of pre-training; given both labels, the sum of both losses."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.cls = Heads(self.bert, words=True, pairs=True)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        attention_mask: Mask | None = None,
        token_type_ids: Int[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        next_labels: Int[Tensor, "B"] | None = None,
    ) -> PreTrainingOutput | Float[Tensor, ""]:
        """Labels as the single heads have them; ValueError for one of two."""
        if (labels is None) != (next_labels is None):
            raise ValueError("give labels and next_labels, or neither")
        x, pooled = self.bert(ids, attention_mask, token_type_ids)
        follows = self.cls.seq_relationship(pooled)  # (B, 2)
        if labels is None:
            return PreTrainingOutput(self.cls.predictions(x), follows)
        words = word_loss(self.cls.predictions, x, labels)
        return words + F.cross_entropy(follows, next_labels.long())


class BertForSequenceClassification(Released):
    """Logits of `num_labels` classes, (B, num_labels), from the pooled vector."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = Bert(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        init_bert_(self.classifier)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        attention_mask: Mask | None = None,
        token_type_ids: Int[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B labels"] | Float[Tensor, ""]:
        """Given `labels`, each text's class, their mean cross-entropy."""
        pooled = self.bert(ids, attention_mask, token_type_ids).pooled
        logits = self.classifier(self.dropout(pooled))
        return logits if labels is None else F.cross_entropy(logits, labels.long())


@torch.no_grad()
def fill_in(
    model: nn.Module,
    ids: Int[Tensor, "B T"],
    mask_id: int,
    n: int = 5,
    attention_mask: Mask | None = None,
) -> tuple[Float[Tensor, "holes n"], Int[Tensor, "holes n"]]:
    """The n likeliest words at each [MASK]: their probabilities, and their ids.

    The likeliest first; `model` gives logits for words. ValueError for ids without one.
    """
    holes = ids == mask_id  # (B, T)
    if not holes.any():
        raise ValueError(f"ids have no {mask_id=}: there is nothing to fill in")
    best = model(ids, attention_mask)[holes].softmax(-1).topk(n)
    return best.values, best.indices
