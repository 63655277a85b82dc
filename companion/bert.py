"""BERT: an encoder that sees both ways, in the names of its release.

Each layer adds to a stream of C numbers per token what attention gathers from the whole text,
then what an MLP makes of the token, and normalises after each addition. Shapes: B texts, T
tokens, C channels, V tokens in the vocabulary, N tokens of a batch without its padding."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["Bert", "BertOutput", "Embeddings", "Pooler", "init_bert_"]

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.bert_config import BertConfig, check_reading
from companion.bert_inputs import additive_mask
from companion.bert_layers import EPS, Encoder
from companion.bert_loading import Released


class Embeddings(nn.Module):
    """What each token is, which of two texts it is from, and where it stands."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, C)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, C)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, C)
        self.LayerNorm = nn.LayerNorm(C, eps=EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, ids: Int[Tensor, "B T"], types: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        here = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        types = torch.zeros_like(ids) if types is None else types
        x = self.word_embeddings(ids.long()) + self.token_type_embeddings(types.long())
        return self.dropout(self.LayerNorm(x + self.position_embeddings(here)))


class Pooler(nn.Module):
    """One vector for a text: its first token's, through a Linear and tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B C"]:
        return self.dense(x[:, 0]).tanh()


class BertOutput(NamedTuple):
    """What BERT makes of each token, and of each text; None without a pooler."""

    last_hidden_state: Float[Tensor, "B T C"]
    pooled: Float[Tensor, "B C"] | None


class Bert(Released):
    """BERT (Devlin et al. 2018), without heads. Names are those of its checkpoints.

    `fused` False writes attention out, mask and all; set it here for all layers.
    """

    def __init__(self, config: BertConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if pooler else None
        init_bert_(self)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T"] | Int[Tensor, "B T"] | None = None,
        token_type_ids: Int[Tensor, "B T"] | None = None,
    ) -> BertOutput:
        """`attention_mask` is True, or 1, at tokens; types are 1 in a second text.

        Padding changes no token's numbers. Its own are 0 or, where `fused` is False,
        those of transformers. Errors as `check_reading`.
        """
        check_reading(ids, attention_mask, token_type_ids, self.config)
        x = self.embeddings(ids, token_type_ids)  # (B, T, C)
        if attention_mask is None or (self.fused and attention_mask.all()):
            x = self.encoder(x)
        elif self.fused and x.device.type == "cpu":
            seen = attention_mask.bool()
            packed = x[seen][None]  # (1, N, C)
            packed = self.encoder(packed, lengths=seen.sum(1).tolist())
            x = torch.zeros_like(x).index_put((seen,), packed[0])
        else:
            x = self.encoder(x, additive_mask(attention_mask, x.dtype))
            if self.fused:
                x = x * attention_mask[..., None]
        return BertOutput(x, self.pooler(x) if self.pooler is not None else None)

    @property
    def fused(self) -> bool:
        return all(layer.attention.self.fused for layer in self.encoder.layer)

    @fused.setter
    def fused(self, value: bool) -> None:
        for layer in self.encoder.layer:
            layer.attention.self.fused = value


@torch.no_grad()
def init_bert_(model: nn.Module) -> None:
    """Start a BERT's weights, in place: normal, 0.02; biases 0; LayerNorm 1 and 0.

    No branch is scaled by depth: the norm comes after each addition. The authors'
    normal is cut at 0.04 besides. Source: google-research/bert, modeling.py.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
