"""A layer of BERT: attention to the whole text, an MLP, and a norm behind each."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["EPS", "AddAndNorm", "Attention", "Encoder", "Intermediate", "Layer", "SelfAttention"]

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.bert_config import BertConfig
from companion.heads import merge_heads, split_heads

EPS = 1e-12  # in all of BERT's norms; GPT-2 and PyTorch have 1e-5


class SelfAttention(nn.Module):
    """Every token looks at every token of its text, before and behind it.

    Set `fused` to False to write it out, with the mask added to the scores; equal to
    rounding.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        C = config.hidden_size
        self.query, self.key, self.value = (nn.Linear(C, C) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)
        self.n_head = config.num_attention_heads
        self.fused = True

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Float[Tensor, "B 1 1 T"] | None = None,
        lengths: list[int] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """`mask` is added to scores. With `lengths`, x (1, N, C) is texts in a row."""
        qkv = (layer(x) for layer in (self.query, self.key, self.value))
        q, k, v = (split_heads(part, self.n_head) for part in qkv)  # 3 x (B, nh, T, hs)
        if lengths is None:
            return merge_heads(self.attend(q, k, v, mask))
        texts = zip(*(part.split(lengths, dim=2) for part in (q, k, v)))
        return merge_heads(torch.cat([self.attend(*text) for text in texts], dim=2))

    def attend(
        self,
        q: Float[Tensor, "B nh T hs"],
        k: Float[Tensor, "B nh T hs"],
        v: Float[Tensor, "B nh T hs"],
        mask: Float[Tensor, "B 1 1 T"] | None = None,
    ) -> Float[Tensor, "B nh T hs"]:
        """Each query's mean of the values, by softmax(q · k / sqrt(hs) + mask)."""
        if self.fused:
            dropout_p = self.dropout.p if self.training else 0.0
            return F.scaled_dot_product_attention(q, k, v, mask, dropout_p)
        scores = q @ k.mT / sqrt(q.shape[-1])  # (B, nh, T, T)
        if mask is not None:
            scores = scores + mask  # the least number at padding, for every query
        return self.dropout(scores.softmax(dim=-1)) @ v


class AddAndNorm(nn.Module):
    """The end of both halves of a layer: a Linear, the stream added, and the norm."""

    def __init__(self, width: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, y: Float[Tensor, "B T width"], x: Float[Tensor, "B T C"]
    ) -> Float[Tensor, "B T C"]:
        return self.LayerNorm(x + self.dropout(self.dense(y)))


class Attention(nn.Module):
    """The first half of a layer; `self` is the release's name for what is inside."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = AddAndNorm(config.hidden_size, config)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Float[Tensor, "B 1 1 T"] | None = None,
        lengths: list[int] | None = None,
    ) -> Float[Tensor, "B T C"]:
        return self.output(self.self(x, mask, lengths), x)


class Intermediate(nn.Module):
    """Four times wider, and GELU: the exact one, with erf."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T width"]:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    """What attention gathers, then what the MLP makes of it; added, then normed."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = AddAndNorm(config.intermediate_size, config)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Float[Tensor, "B 1 1 T"] | None = None,
        lengths: list[int] | None = None,
    ) -> Float[Tensor, "B T C"]:
        x = self.attention(x, mask, lengths)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    """The layers, one behind the other."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Float[Tensor, "B 1 1 T"] | None = None,
        lengths: list[int] | None = None,
    ) -> Float[Tensor, "B T C"]:
        for layer in self.layer:
            x = layer(x, mask, lengths)
        return x
