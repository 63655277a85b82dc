"""Lesson 10: causal self-attention from a blank cell, and the bugs of lessons 04, 08 and 09."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise, Mistake
from companion.lab.toy import merge_heads, split_heads

Seen = dict[str, Any]
LAYERS = {"c_attn": 3, "c_proj": 1}
SHORT, LONG, ONE = "a short text", "a text of block_size", "one token"
SLOPES = "gradients of x and c_attn"


def look(answer: Callable[..., nn.Module], C: int, n_head: int, block_size: int) -> Seen:
    """Make a module, give it known weights, and let it read a short and a full text."""
    module = answer(C, n_head, block_size)
    if module is None or module is ...:
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a layer, an nn.Module; this is a {type(module).__name__}")
    module.eval()
    fill(module, C)
    x = text(C, 5, rows=3).requires_grad_()
    short = module(x)
    with torch.no_grad():
        long, one = module(text(C, block_size)), module(text(C, 1))
    weighed = (short * text(C, 5, rows=3).flip(0)).sum()
    slopes = torch.autograd.grad(weighed, [x, module.c_attn.weight], allow_unused=True)
    none = [torch.zeros(1) if slope is None else slope for slope in slopes]
    return {SHORT: short.detach(), LONG: long, ONE: one, SLOPES: none}


def fill(module: nn.Module, C: int) -> None:
    """Weights drawn by name, large enough that no wrong step stays small."""
    order = torch.Generator().manual_seed(C)
    for name, times in LAYERS.items():
        layer = getattr(module, name, None)
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"expected an nn.Linear called {name} among its layers")
        if layer.weight.shape != (times * C, C):
            raise TypeError(
                f"expected {name} to go from {C} to {times * C} numbers, it goes from "
                f"{layer.in_features} to {layer.out_features}"
            )
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=order) * 1.5 / sqrt(C))
            if layer.bias is not None:
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=order) * 0.1)


def text(C: int, T: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, T, C, generator=torch.Generator().manual_seed(T))


# --- answers, by what they do otherwise -----------------------------------------------------------


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


class Interleaved(Attention):
    """q, k and v taken for each head in turn, as if c_attn had a head's three side by side."""

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        by_head = self.c_attn(x).unflatten(-1, (self.n_head, 3, -1))
        return tuple(part.flatten(2) for part in by_head.unbind(-2))


class KeysAskQueries(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = super().parts(x)
        return k, q, v


class ValuesFirst(Attention):
    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        v, q, k = super().parts(x)
        return q, k, v


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


class NotScaled(Attention):
    def scale(self, q: Tensor) -> float:
        return 1.0


class ByWidth(Attention):
    def scale(self, q: Tensor) -> float:
        return sqrt(q.shape[-1] * self.n_head)


class ByHeadSize(Attention):
    def scale(self, q: Tensor) -> float:
        return q.shape[-1]


class ScaledAfter(NotScaled):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return super().weights(q, k) / sqrt(q.shape[-1])


class NoWayBack(Attention):
    def out(self, y: Tensor) -> Tensor:
        return y


class MaskOfWidth(Attention):
    """The journal's: a mask made once, of n_embd instead of block_size."""

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


class MaskedSooner(Attention):
    """Only the short text is right: its mask was made for five."""

    def mask(self, T: int) -> Tensor:
        return past_only(T) if T <= 5 else torch.ones(T, T).bool()


def short_alone(seen: Seen, want: Seen, *probe: int) -> bool:
    return (
        first_difference(seen[SHORT], want[SHORT], 1e-4) is None
        and first_difference(seen[LONG], want[LONG], 1e-4) is not None
    )


attention = Exercise(
    reference=Attention,
    probes=[(12, 3, 20), (10, 2, 35)],
    look=look,
    mistakes=[
        Mistake(
            "heads viewed, not turned",
            "view (B, nh, T, hs) of (B, T, C) has the right shape and mixes tokens into heads. "
            "First give the heads an axis of their own behind T, then move it.",
            ViewedIntoHeads,
        ),
        Mistake(
            "merged without turning back",
            "the heads are merged while they still stand before T: a token's numbers come from "
            "other tokens. Move the axis back first.",
            MergedUnturned,
        ),
        Mistake(
            "viewed there and back",
            "both ways a view where an axis has to be moved. The shapes fit and nothing leaks out "
            "of the row, but heads are made of pieces of several tokens.",
            ViewedBothWays,
        ),
        Mistake(
            "q, k and v taken head by head",
            "c_attn gives all of q, then all of k, then all of v. Here each head took three "
            "pieces in turn, so weights of GPT-2 would be read in another order.",
            Interleaved,
        ),
        Mistake(
            "q and k exchanged",
            "the first third of c_attn is q, and the one that asks: its token's row of weights "
            "adds up to 1. Here keys ask queries.",
            KeysAskQueries,
        ),
        Mistake(
            "another order of q, k and v",
            "GPT-2's order is q, k, v. The first third went into v here.",
            ValuesFirst,
        ),
        Mistake(
            "no mask",
            "the first token's output changes with what comes after it: every query sees every "
            "key.",
            Unmasked,
        ),
        Mistake(
            "sees only what comes",
            "the triangle is the wrong one: each token sees itself and what follows.",
            Ahead,
        ),
        Mistake(
            "one token ahead",
            "each token sees the next one, which is what it should guess. Where does the "
            "triangle's edge lie?",
            OneAhead,
        ),
        Mistake(
            "not itself",
            "no token sees itself, and the first sees nothing: its row is nan. The diagonal is "
            "part of what may be seen.",
            OneBehind,
        ),
        Mistake(
            "zeros for scores",
            "a score of 0 is no bar to the softmax, which gives e to the 0 a share. Which number "
            "has none?",
            ZeroesInScores,
        ),
        Mistake(
            "masked after the softmax",
            "the weights of a row no longer add up to 1, since what is hidden took its share "
            "first. Hide it before the softmax.",
            MaskedAfter,
        ),
        Mistake(
            "softmax over the queries",
            "each key's weights add up to 1 here, over those who look at it. It is a query's "
            "weights over the keys that should: another axis.",
            OverQueries,
        ),
        Mistake(
            "not scaled",
            "the scores grow with the head size, and the softmax with them hardens. Lesson 09 has "
            "what they are divided by.",
            NotScaled,
        ),
        Mistake(
            "scaled by the width",
            "a score adds up as many products as a head has numbers, not as the model is wide. "
            "With one head it would not show.",
            ByWidth,
        ),
        Mistake(
            "scaled by the head size",
            "what grows with the head size is the variance of the scores. Their size is its root.",
            ByHeadSize,
        ),
        Mistake(
            "scaled after the softmax",
            "the division comes too late: the weights of a row add up to less than 1 now, and the "
            "softmax saw the large scores.",
            ScaledAfter,
        ),
        Mistake(
            "no way back",
            "the heads' results are returned side by side, and c_proj is never used.",
            NoWayBack,
        ),
        Mistake(
            "a mask of n_embd",
            "the mask was made for n_embd positions, and a text may have block_size. It goes well "
            "as long as texts are shorter than the model is wide.",
            MaskOfWidth,
        ),
        Mistake(
            "a mask that is not cut",
            "the mask has block_size rows, and a text may be shorter: take the corner that it "
            "needs.",
            MaskOfBlock,
        ),
        Mistake(
            "wrong on long texts",
            "five tokens come out right and block_size tokens do not. What in it was made for one "
            "length?",
            MaskedSooner,
            short_alone,
        ),
    ],
)
