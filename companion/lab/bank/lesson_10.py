"""Lesson 10: causal self-attention from a blank cell, and the bugs of lessons 04, 08 and 09."""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from companion.lab.bank import attention_answers as answers
from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise, Mistake

Seen = dict[str, Any]
LAYERS = {"c_attn": 3, "c_proj": 1}
SHORT, LONG, ONE = "a short text", "a text of block_size", "one token"
LOUD, ZEROS = "a text of large numbers", "a text whose scores are partly 0"
AGAIN, TRAINING = "the short text, read again", "a text, in training mode"
SLOPES = [f"the gradient of {of}" for of in ("x", "c_attn.weight", "c_proj.weight")]
VOLUME = 30.0  # how large: scores of some thousands, on either side of 0


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
    if short is None:
        raise TypeError("forward returned nothing: does every path end with `return`?")
    with torch.no_grad():
        long, one = module(text(C, block_size, rows=1)), module(text(C, 1))
        again, loud = module(x), module(VOLUME * text(C, 2, rows=8)) / VOLUME
    weighed = (short * text(C, 5, rows=3).flip(0)).sum()
    leaves = [x, module.c_attn.weight, module.c_proj.weight]
    slopes = torch.autograd.grad(weighed, leaves, allow_unused=True)
    none = [torch.zeros_like(x) if slope is None else slope for x, slope in zip(leaves, slopes)]
    return {
        SHORT: short.detach(),
        LONG: long,
        ONE: one,
        LOUD: loud,
        AGAIN: again,
        TRAINING: in_training(module, text(C, 7)),
        ZEROS: without_bias(module, C),
        **dict(zip(SLOPES, none)),
    }


@torch.no_grad()
def in_training(module: nn.Module, x: Tensor) -> Tensor:
    """What it makes of x in training mode, without the dropout that GPT-2's has.

    All nan where dropout is given scores: for each pair of tokens a number, some below 0.
    """
    T, of_scores = x.shape[1], []

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        layer.p = 0.0
        of_scores.append(given[0].shape[-2:] == (T, T) and bool((given[0] < 0).any()))

    dropouts = [layer for layer in module.train().modules() if isinstance(layer, nn.Dropout)]
    noting = [layer.register_forward_pre_hook(note) for layer in dropouts]
    y = module(x)
    for hook in noting:
        hook.remove()
    module.eval()
    return torch.full_like(y, torch.nan) if any(of_scores) else y


@torch.no_grad()
def without_bias(module: nn.Module, C: int) -> Tensor:
    """What it makes of a text of which two tokens are zeros, all biases 0: scores are 0 there."""
    for name in LAYERS:
        if (layer := getattr(module, name)).bias is not None:
            layer.bias.zero_()
    x = text(C, 4)
    x[:, ::2] = 0
    return module(x)


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
            bias = torch.randn(times * C, generator=order) * 0.3
            if layer.bias is not None:
                layer.bias.copy_(bias)


def text(C: int, T: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, T, C, generator=torch.Generator().manual_seed(T))


def differs_again(seen: Seen, want: Seen, *probe: int) -> bool:
    """The same text gave other numbers the second time."""
    return (
        bool(seen[AGAIN].isfinite().all())
        and first_difference(seen[AGAIN], seen[SHORT], 1e-4) is not None
    )


def alone(what: str, seen: Seen, want: Seen, *probe: int) -> bool:
    """All else is right, and where an input shows nothing, all."""
    return all(key == what or not first_difference(seen[key], want[key], 1e-4) for key in want)


def slopes_alone(seen: Seen, want: Seen, *probe: int) -> bool:
    """All that it computes is right, and a gradient is not."""
    wrong = {key for key in want if first_difference(seen[key], want[key], 1e-4)}
    return bool(wrong) and wrong <= set(SLOPES)


def short_alone(seen: Seen, want: Seen, *probe: int) -> bool:
    return (
        first_difference(seen[SHORT], want[SHORT], 1e-4) is None
        and first_difference(seen[LONG], want[LONG], 1e-4) is not None
    )


ORDER = "GPT-2's order is q, k, v, and its release is read in that order. The {} here."
UNMOVED = (
    "the heads have an axis, and it still stands behind T. So a token's heads looked at one "
    "another, and no token at any other. Write the shape behind each line: the last two axes "
    "meet in the product."
)
HEADS_LAST = (
    "a head's numbers lie side by side in C: the first C / n_head are head 0's. In (B, T, hs, nh) "
    "neighbours go to different heads. Which of the two axes belongs in front, going and coming "
    "back?"
)
OVER_HEADS = (
    "for one pair of tokens, the heads' weights add up to 1 here. It is a query's weights over "
    "the keys that should, in each head: another axis."
)
ANOTHER_ROOT = (
    "the scores are divided by the root of {} here. How many products does one score add up?"
)
NO_BIAS = (
    "{} no bias. A Linear has one unless it is told otherwise, and GPT-2's release has one for "
    "both layers."
)
NOT_FAR = (
    "the hidden scores were replaced by a number, and exp of that number is not nothing beside "
    "the scores that are left. What has an exponential of exactly 0?"
)
OF_WIDTH = (
    "right as long as a text is short beside the model's width, and then a longer one came. Which "
    "number was the mask made of, and what does that number count?"
)
UNCUT_WIDTH = (
    "the mask has as many rows whatever is read. It says who may look at whom: what do its rows "
    "stand for, and from which number were they made?"
)
UNCUT = "the mask has block_size rows, and a text may be shorter: take the corner that it needs."
FIXED_SIZE = (
    "the mask has a size that stands in your code, and a longer text came. How many tokens there "
    "may be, block_size says; how many there are, x does."
)

attention = Exercise(
    reference=answers.Attention,
    probes=[(12, 3, 20), (10, 2, 35), (6, 1, 1030)],  # the last is longer than GPT-2's
    look=look,
    seconds=180.0,  # loops over queries and keys: half a minute, and more on a busy machine
    mistakes=[
        Mistake(
            "other numbers each time",
            "the same text, read twice in eval mode, gave two results. What in it draws at "
            "random, whatever the mode?",
            answers.DropsAlways,
            differs_again,
        ),
        Mistake(
            "dropout on the scores",
            "right in eval mode. In training mode dropout sets some scores to 0, and a score of 0 "
            "is no bar to the softmax: it has a share. GPT-2 drops what the softmax gives.",
            answers.DropsScores,
        ),
        Mistake(
            "other numbers in training",
            "right after eval(). In training mode it computes something else, and there it is "
            "what learns: what depends on the mode?",
            answers.MaskedInEval,
            partial(alone, TRAINING),
        ),
        *(
            Mistake("heads not moved", UNMOVED, answer)
            for answer in (
                answers.HeadsUnmoved,
                answers.HeadsUnmovedMovedBack,
                answers.HeadsUnmovedUnmasked,
                answers.HeadsUnmovedMaskOfTokens,
                answers.HeadsUnmovedMaskOfTokensByWhere,
                answers.HeadsUnmovedMaskAdded,
            )
        ),
        Mistake(
            "heads viewed, not turned",
            "view (B, nh, T, hs) of (B, T, C) has the right shape and mixes tokens into heads. "
            "First give the heads an axis of their own behind T, then move it.",
            answers.ViewedIntoHeads,
        ),
        Mistake(
            "merged without turning back",
            "the heads are merged while they still stand before T: a token's numbers come from "
            "other tokens. Move the axis back first.",
            answers.MergedUnturned,
        ),
        Mistake(
            "viewed there and back",
            "both ways a view where an axis has to be moved. The shapes fit and nothing leaks out "
            "of the row, but heads are made of pieces of several tokens.",
            answers.ViewedBothWays,
        ),
        Mistake(
            "q, k and v taken head by head",
            "c_attn gives all of q, then all of k, then all of v. Here each head took three "
            "pieces in turn, so weights of GPT-2 would be read in another order.",
            answers.Interleaved,
        ),
        Mistake(
            "q and k exchanged",
            "the first third of c_attn is q, and the one that asks: its token's row of weights "
            "adds up to 1. Here keys ask queries.",
            answers.KeysAskQueries,
        ),
        *(
            Mistake("another order of q, k and v", ORDER.format(what), answer)
            for what, answer in (
                ("second third went into v, and the last into k", answers.ValuesSecond),
                ("first third went into v", answers.ValuesFirst),
                ("first third went into v", answers.ValuesFirstAndTurned),
                ("last third went into q", answers.QueriesLast),
            )
        ),
        *(
            Mistake("heads behind their numbers", HEADS_LAST, answer)
            for answer in (answers.HeadsLast, answers.HeadsLastMergedFirst, answers.MergedFirst)
        ),
        *(
            Mistake("no bias", NO_BIAS.format(layers), answer)
            for layers, answer in (
                ("c_attn and c_proj have", answers.Unbiased),
                ("c_attn has", answers.UnbiasedIn),
                ("c_proj has", answers.UnbiasedOut),
            )
        ),
        Mistake(
            "no mask",
            "the first token's output changes with what comes after it: every query sees every "
            "key.",
            answers.Unmasked,
        ),
        Mistake(
            "sees only what comes",
            "the triangle is the wrong one: each token sees itself and what follows.",
            answers.Ahead,
        ),
        Mistake(
            "one token ahead",
            "each token sees the next one, which is what it should guess. Where does the "
            "triangle's edge lie?",
            answers.OneAhead,
        ),
        Mistake(
            "not itself",
            "no token sees itself, and the first sees nothing: its row is nan. The diagonal is "
            "part of what may be seen.",
            answers.OneBehind,
        ),
        Mistake(
            "upside down",
            "what should be seen was hidden, and what should be hidden was seen; the last token "
            "was left with nothing, hence its nan. masked_fill fills where its mask is True.",
            answers.UpsideDown,
        ),
        *(
            Mistake("not far enough", NOT_FAR, answers.filled_with(number))
            for number in (*range(-1, -11, -1), *range(-15, -65, -5), -80, -100)
        ),
        Mistake(
            "shared out again",
            "right while scores are moderate. Where a later token scores hundreds higher, all "
            "that may be seen was rounded to 0 before you divided by its sum. Hide the future "
            "before anything is shared out.",
            answers.SharedOutAgain,
        ),
        Mistake(
            "zeros taken for hidden",
            "a score of exactly 0 was hidden with the future, and a row that had nothing else "
            "became nan. 0 is a score like any other: let places say what is hidden, not values.",
            answers.ZerosTakenForHidden,
        ),
        Mistake(
            "zeros for scores",
            "a score of 0 is no bar to the softmax, which gives e to the 0 a share. Which number "
            "has none?",
            answers.ZeroesInScores,
        ),
        Mistake(
            "masked after the softmax",
            "the weights of a row no longer add up to 1, since what is hidden took its share "
            "first. Hide it before the softmax.",
            answers.MaskedAfter,
        ),
        Mistake(
            "softmax over the queries",
            "each key's weights add up to 1 here, over those who look at it. It is a query's "
            "weights over the keys that should: another axis.",
            answers.OverQueries,
        ),
        *(
            Mistake("softmax over the heads", OVER_HEADS, answer)
            for answer in (answers.OverHeads, answers.OverHeadsFilledWithInfinity)
        ),
        Mistake(
            "not scaled",
            "the scores grow with the head size, and the softmax with them hardens. Lesson 09 has "
            "what they are divided by.",
            answers.NotScaled,
        ),
        Mistake(
            "scaled by the width",
            "a score adds up as many products as a head has numbers, not as the model is wide. "
            "With one head it would not show.",
            answers.ByWidth,
        ),
        Mistake(
            "scaled by the head size",
            "what grows with the head size is the variance of the scores. Their size is its root.",
            answers.ByHeadSize,
        ),
        *(
            Mistake("scaled by another number", ANOTHER_ROOT.format(of), answer)
            for of, answer in (
                ("the number of heads", answers.ByNumberOfHeads),
                ("the text's length", answers.ByLength),
            )
        ),
        Mistake(
            "scaled after the softmax",
            "the division comes too late: the weights of a row add up to less than 1 now, and the "
            "softmax saw the large scores.",
            answers.ScaledAfter,
        ),
        Mistake(
            "no way back",
            "the heads' results are returned side by side, and c_proj is never used.",
            answers.NoWayBack,
        ),
        Mistake(
            "c_proj learns nothing",
            "all that it computes is right, and c_proj's parameters get no gradient, so they would "
            "stay as they are. Is the layer called, or was its weight taken out of it?",
            answers.ProjectionLearnsNothing,
        ),
        Mistake(
            "another gradient",
            "all that it computes is right, and a gradient is not. Which step leaves PyTorch, or "
            "the graph (detach, data, item, no_grad)?",
            answers.HalfDetached,
            slopes_alone,
        ),
        *(
            Mistake("a mask of another number", OF_WIDTH, answer)
            for answer in (
                answers.MaskOfWidth,
                answers.MaskOfWidthByWhere,
                answers.MaskOfFourWidths,
            )
        ),
        *(
            Mistake("a mask of another number, not cut", UNCUT_WIDTH, answer)
            for answer in (answers.MaskOfWidthUncut, answers.MaskOfWidthUncutByWhere)
        ),
        *(
            Mistake("a mask that is not cut", UNCUT, answer)
            for answer in (answers.MaskOfBlock, answers.MaskOfBlockByWhere)
        ),
        *(
            Mistake("a mask of one size", FIXED_SIZE, answer)
            for size in (1024, 1000, 768, 512, 256, 128, 64, 32, 16, 8)
            for answer in answers.fixed(size)
        ),
        Mistake(
            "wrong on large scores",
            "right while scores are moderate. Here some were thousands below 0, and what was to "
            "be hidden got a share. Which number lies below every score?",
            answers.filled_with(-2500),
            partial(alone, LOUD),
        ),
        Mistake(
            "wrong on long texts",
            "five tokens come out right and block_size tokens do not. What in it was made for one "
            "length?",
            answers.MaskedSooner,
            short_alone,
        ),
    ],
)
