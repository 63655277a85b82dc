"""Causal self-attention, one right, and others by what they do otherwise."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.lab.bank import mask_answers
from companion.lab.toy import merge_heads, split_heads


def past_only(T: int) -> Tensor:
    return torch.ones(T, T).tril().bool()


class Attention(nn.Module):
    """The right one; each method is a place to go wrong."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.n_head, self.block_size = n_head, block_size

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(part) for part in self.parts(x))
        return self.out(self.merge(self.weights(q, k) @ v))

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.c_attn(x).chunk(3, dim=-1)

    def split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.n_head)

    def merge(self, y: Tensor) -> Tensor:
        return merge_heads(y)

    def out(self, y: Tensor) -> Tensor:
        return self.c_proj(y)

    def scale(self, q: Tensor) -> float:
        return sqrt(q.shape[-1])

    def mask(self, T: int) -> Tensor:
        return past_only(T)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.mT / self.scale(q)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return scores.masked_fill(~self.mask(q.shape[2]), -torch.inf).softmax(-1)


class ViewedIntoHeads(Attention):
    def split(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.reshape(B, self.n_head, T, C // self.n_head)


class MergedUnturned(Attention):
    def merge(self, y: Tensor) -> Tensor:
        B, nh, T, hs = y.shape
        return y.reshape(B, T, nh * hs)


class ViewedBothWays(ViewedIntoHeads, MergedUnturned):
    pass


class MergedFirst(Attention):
    """Back with a head's numbers before the heads: hs * nh."""

    def merge(self, y: Tensor) -> Tensor:
        return y.permute(0, 2, 3, 1).flatten(2)


class HeadsLastMergedFirst(Attention):
    """Viewed as (B, T, hs, nh), and merged as if it had been (B, T, nh, hs)."""

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.n_head)).permute(0, 3, 1, 2)


class HeadsLast(HeadsLastMergedFirst, MergedFirst):
    pass


class HeadsUnmoved(Attention):
    """(B, T, nh, hs) given to what takes (B, nh, T, hs), whose T is then the heads' number."""

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_head, -1))

    def merge(self, y: Tensor) -> Tensor:
        return y.flatten(2)


class HeadsUnmovedMovedBack(HeadsUnmoved):
    def merge(self, y: Tensor) -> Tensor:
        B, T, nh, hs = y.shape
        return y.transpose(1, 2).reshape(B, T, nh * hs)


class HeadsUnmovedUnmasked(HeadsUnmoved):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).bool()


class HeadsUnmovedMaskOfTokens(HeadsUnmoved):
    """Written out, with a mask as large as the text: the shapes do not fit."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return self.scores(q, k).masked_fill(~past_only(q.shape[1]), -torch.inf).softmax(-1)


class HeadsUnmovedMaskOfTokensByWhere(HeadsUnmoved):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.where(past_only(q.shape[1]), self.scores(q, k), -torch.inf).softmax(-1)


class HeadsUnmovedMaskAdded(HeadsUnmoved):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        hidden = torch.full((q.shape[1],) * 2, -torch.inf).triu(1)
        return (self.scores(q, k) + hidden).softmax(-1)


class Interleaved(Attention):
    """q, k and v taken for each head in turn, as if c_attn had a head's three side by side."""

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        by_head = self.c_attn(x).unflatten(-1, (self.n_head, 3, -1))
        return tuple(part.flatten(2) for part in by_head.unbind(-2))


class KeysAskQueries(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = super().parts(x)
        return k, q, v


class OtherOrder(Attention):
    """The thirds of c_attn taken in another order: `order[i]` is the third that is q, k, v."""

    order = (0, 1, 2)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        thirds = super().parts(x)
        return tuple(thirds[at] for at in self.order)


class ValuesSecond(OtherOrder):
    order = (0, 2, 1)


class ValuesFirst(OtherOrder):
    order = (1, 2, 0)


class ValuesFirstAndTurned(OtherOrder):
    order = (2, 1, 0)


class QueriesLast(OtherOrder):
    order = (2, 0, 1)


class Unbiased(Attention):
    """Layers made with bias=False."""

    without: tuple[str, ...] = ("c_attn", "c_proj")

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__(n_embd, n_head, block_size)
        for name in self.without:
            getattr(self, name).bias = None


class UnbiasedIn(Unbiased):
    without = ("c_attn",)


class UnbiasedOut(Unbiased):
    without = ("c_proj",)


class Unmasked(Attention):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).bool()


class Ahead(Attention):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).triu().bool()


class OneAhead(Attention):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).tril(1).bool()


class OneBehind(Attention):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).tril(-1).bool()


class UpsideDown(Attention):
    def mask(self, T: int) -> Tensor:
        return ~past_only(T)


class FilledWith(Attention):
    """Hidden scores replaced by a number that is not far enough below the others."""

    number = -20.0

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return scores.masked_fill(~self.mask(q.shape[2]), self.number).softmax(-1)


def filled_with(number: float) -> type[Attention]:
    return type("FilledWith", (FilledWith,), {"number": number})


class SharedOutAgain(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return mask_answers.renormalised(self.scores(q, k), 0)


class ZerosTakenForHidden(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return mask_answers.by_zeros(self.scores(q, k), 0)


class ZeroesInScores(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (self.scores(q, k) * self.mask(q.shape[2])).softmax(-1)


class MaskedAfter(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return self.scores(q, k).softmax(-1) * self.mask(q.shape[2])


class OverQueries(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return scores.masked_fill(~self.mask(q.shape[2]), -torch.inf).softmax(-2)


class OverHeads(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return scores.masked_fill(~self.mask(q.shape[2]), -1e9).softmax(1)


class OverHeadsFilledWithInfinity(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return scores.masked_fill(~self.mask(q.shape[2]), -torch.inf).softmax(1)


class NotScaled(Attention):
    def scale(self, q: Tensor) -> float:
        return 1.0


class ByWidth(Attention):
    def scale(self, q: Tensor) -> float:
        return sqrt(q.shape[-1] * self.n_head)


class ByHeadSize(Attention):
    def scale(self, q: Tensor) -> float:
        return q.shape[-1]


class ByNumberOfHeads(Attention):
    def scale(self, q: Tensor) -> float:
        return sqrt(self.n_head)


class ByLength(Attention):
    def scale(self, q: Tensor) -> float:
        return sqrt(q.shape[2])


class ScaledAfter(NotScaled):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return super().weights(q, k) / sqrt(q.shape[-1])


class NoWayBack(Attention):
    def out(self, y: Tensor) -> Tensor:
        return y


class ProjectionLearnsNothing(Attention):
    def out(self, y: Tensor) -> Tensor:
        return F.linear(y, self.c_proj.weight.detach(), self.c_proj.bias)


class HalfDetached(Attention):
    """Queries that hand no gradient back."""

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = super().parts(x)
        return q.detach(), k, v


class MaskOfWidth(Attention):
    """A mask made once, of n_embd instead of block_size, and cut to the text."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__(n_embd, n_head, block_size)
        self.register_buffer("bias", past_only(n_embd))

    def mask(self, T: int) -> Tensor:
        return self.bias[:T, :T]


class MaskOfBlock(MaskOfWidth):
    """A mask that is not cut to the text."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__(n_embd, n_head, block_size)
        self.bias = past_only(block_size)

    def mask(self, T: int) -> Tensor:
        return self.bias


class MaskOfWidthUncut(MaskOfWidth):
    """The journal's: of n_embd, and used whole."""

    def mask(self, T: int) -> Tensor:
        return self.bias


class ByWhere(Attention):
    """The same in other words, for the words of PyTorch's error are others then."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = self.scores(q, k)
        return torch.where(self.mask(q.shape[2]), scores, -torch.inf).softmax(-1)


class MaskOfWidthByWhere(MaskOfWidth, ByWhere):
    pass


class MaskOfWidthUncutByWhere(MaskOfWidthUncut, ByWhere):
    pass


class MaskOfBlockByWhere(MaskOfBlock, ByWhere):
    pass


class FixedMask(Attention):
    """A mask whose size stands in the code."""

    size = 64

    def mask(self, T: int) -> Tensor:
        return past_only(self.size)[:T, :T]


class FixedMaskByWhere(FixedMask, ByWhere):
    pass


def fixed(size: int) -> list[type[Attention]]:
    return [type(kind.__name__, (kind,), {"size": size}) for kind in (FixedMask, FixedMaskByWhere)]


class MaskOfFourWidths(FixedMask):
    """As wide as the MLP."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__(n_embd, n_head, block_size)
        self.size = 4 * n_embd


class MaskedSooner(Attention):
    """Only the short text is right: its mask was made for five."""

    def mask(self, T: int) -> Tensor:
        return past_only(T) if T <= 5 else torch.ones(T, T).bool()


class DropsAlways(Attention):
    """Dropout that does not ask for the mode."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return F.dropout(super().weights(q, k), 0.1)


class MaskedInEval(Attention):
    def mask(self, T: int) -> Tensor:
        return torch.ones(T, T).bool() if self.training else past_only(T)


class DropsScores(Attention):
    """Dropout before the softmax."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__(n_embd, n_head, block_size)
        self.dropout = nn.Dropout(0.1)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        return self.dropout(super().scores(q, k))
