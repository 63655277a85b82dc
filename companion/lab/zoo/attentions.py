"""Attention typed wrong: masks, softmax, heads and rows."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import nn

from companion.attention import CausalSelfAttention
from companion.lab.zoo.case import Case, part


class NoMask(CausalSelfAttention):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)  # is_causal=True


class ByHand(CausalSelfAttention):
    """Right: scores, mask, softmax, values, each in its own line."""

    def attend(self, q, k, v):
        scores = self.scores(q, k)  # (B, nh, T, T)
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        return self.weights(scores, mask) @ v

    def scores(self, q, k):
        return q @ k.mT / sqrt(q.shape[-1])

    def weights(self, scores, mask):
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


class OneTooFar(ByHand):
    def weights(self, scores, mask):
        mask = torch.ones_like(mask).tril(diagonal=1)  # diagonal=0
        return super().weights(scores, mask)


class Upside(ByHand):
    def weights(self, scores, mask):
        return super().weights(scores, mask.triu() | ~mask)  # mask


class OverQueries(ByHand):
    def weights(self, scores, mask):
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=-2)  # dim=-1


class MaskAfter(ByHand):
    def weights(self, scores, mask):
        return scores.softmax(dim=-1) * mask  # masked before the softmax


class ItselfAlone(ByHand):
    def weights(self, scores, mask):
        return super().weights(scores, mask & mask.mT)  # mask


class NotItself(ByHand):
    def weights(self, scores, mask):
        mask = mask.tril(diagonal=-1)  # diagonal=0
        return scores.masked_fill(~mask, -1e9).softmax(dim=-1)


class EmptyRow(ByHand):
    def weights(self, scores, mask):
        mask = mask.tril(diagonal=-1)  # diagonal=0
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


class Unscaled(ByHand):
    def scores(self, q, k):
        return q @ k.mT  # / sqrt(q.shape[-1])


class MaskOfWidth(ByHand):
    def __init__(self, n_embd, n_head, block_size):
        super().__init__(n_embd, n_head, block_size)
        ones = torch.ones(n_embd, n_embd, dtype=torch.bool)  # block_size
        self.register_buffer("bias", ones.tril(), persistent=False)

    def weights(self, scores, mask):
        T = scores.shape[-1]
        return super().weights(scores, self.bias[:T, :T])


class MaskUncut(ByHand):
    def __init__(self, n_embd, n_head, block_size):
        super().__init__(n_embd, n_head, block_size)
        ones = torch.ones(block_size, block_size, dtype=torch.bool)
        self.register_buffer("bias", ones.tril(), persistent=False)

    def weights(self, scores, mask):
        return super().weights(scores, self.bias)  # self.bias[:T, :T]


class Split(CausalSelfAttention):
    """Right: q, k and v are cut into heads, and the heads are put side by side again."""

    def forward(self, x, cache=None):
        q, k, v = (self.split(part) for part in self.c_attn(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, nh, T, hs)
        return self.c_proj(self.merge(y))

    def split(self, x):
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)

    def merge(self, y):
        return y.transpose(1, 2).flatten(2)


class HeadsByView(Split):
    def split(self, x):
        B, T, C = x.shape  # .view(B, T, nh, hs).transpose(1, 2)
        return x.reshape(B, self.n_head, T, C // self.n_head)


class RowsByView(Split):
    def split(self, x):
        B, T, C = x.shape  # .view(B, T, nh, hs).permute(2, 0, 1, 3)
        return x.reshape(self.n_head, B, T, C // self.n_head)

    def merge(self, y):
        return y.permute(1, 2, 0, 3).flatten(2)


class RowsForTokens(nn.Module):
    """PyTorch's own attention, which takes (T, B, C) unless it is told otherwise."""

    def __init__(self, n_embd, n_head, block_size):
        super().__init__()
        self.attn = nn.MultiheadAttention(n_embd, n_head)  # batch_first=True

    def forward(self, x, cache=None):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[0])
        return self.attn(x, x, x, attn_mask=mask, need_weights=False)[0]


FUTURE, BATCH = "sees-future", "mixes-batch"

CASES = [
    Case("no mask", "is_causal=True was left out", FUTURE, part(attention=NoMask)),
    Case(
        "mask, one too far",
        "tril(diagonal=1): each token sees the next",
        FUTURE,
        part(attention=OneTooFar),
    ),
    Case("mask, upside down", "triu for tril", FUTURE, part(attention=Upside)),
    Case(
        "softmax over queries",
        "softmax(dim=-2) for dim=-1",
        FUTURE,
        part(attention=OverQueries),
    ),
    Case(
        "mask after softmax",
        "softmax(scores) * mask: the sum still counts the future",
        FUTURE,
        part(attention=MaskAfter),
    ),
    Case(
        "mask without itself",
        "tril(diagonal=-1), filled with -1e9: the first token, left with none, sees all",
        FUTURE,
        part(attention=NotItself),
    ),
    Case(
        "heads by view",
        "view(B, nh, T, hs) for view(B, T, nh, hs).transpose(1, 2)",
        FUTURE,
        part(attention=HeadsByView),
    ),
    Case(
        "rows mixed by view",
        "view(nh, B, T, hs) for a permute",
        BATCH,
        part(attention=RowsByView),
    ),
    Case(
        "rows for tokens",
        "nn.MultiheadAttention without batch_first=True",
        BATCH,
        part(attention=RowsForTokens),
    ),
    Case(
        "mask of n_embd",
        "a mask of n_embd rows, where block_size is 128",
        "context-fails",
        part(attention=MaskOfWidth, block_size=128),
        block_size=128,
    ),
    Case(
        "mask of n_embd, too large",
        "a mask of n_embd rows, where block_size is 32: they are never all used",
        "mask-too-large",
        part(attention=MaskOfWidth),
    ),
    Case(
        "mask of the diagonal",
        "each token sees itself alone",
        "ignores-past",
        part(attention=ItselfAlone),
    ),
    Case(
        "scores not scaled",
        "without / sqrt(head size)",
        "scores-unscaled",
        part(attention=Unscaled),
    ),
    Case(
        "mask uncut",
        "the whole mask for mask[:T, :T]",
        "short-fails",
        part(attention=MaskUncut),
    ),
    Case(
        "mask with an empty row",
        "tril(diagonal=-1), filled with -inf: the first token's softmax is 0 / 0",
        "outputs-not-finite",
        part(attention=EmptyRow),
    ),
]
