"""Lesson 04: attention for all heads at once, where splitting and merging can go wrong."""

from collections.abc import Callable

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Split = Callable[[Tensor, int], Tensor]  # (B, T, C) and n_head to (B, nh, T, hs)
Merge = Callable[[Tensor], Tensor]  # and back
Answer = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def with_heads(split: Split, merge: Merge) -> Answer:
    """An answer that attends between this split and this merge."""

    def answer(q: Tensor, k: Tensor, v: Tensor, n_head: int) -> Tensor:
        return merge(attend(*(split(x, n_head) for x in (q, k, v))))

    return answer


def split(x: Tensor, n_head: int) -> Tensor:
    B, T, C = x.shape
    return x.view(B, T, n_head, C // n_head).transpose(1, 2)


def merge(y: Tensor) -> Tensor:
    return y.transpose(1, 2).flatten(2)


def split_by_view(x: Tensor, n_head: int) -> Tensor:
    B, T, C = x.shape
    return x.view(B, n_head, T, C // n_head)


def merge_by_view(y: Tensor) -> Tensor:
    B, nh, T, hs = y.shape
    return y.reshape(B, T, nh * hs)


def merge_by_view_where_it_lies(y: Tensor) -> Tensor:
    B, nh, T, hs = y.shape
    return y.transpose(1, 2).view(B, T, nh * hs)


def untransposed(x: Tensor, n_head: int) -> Tensor:
    return x.view(*x.shape[:2], n_head, -1)


def heads_last(x: Tensor, n_head: int) -> Tensor:
    return untransposed(x, n_head).transpose(1, 3)


def every_nth(x: Tensor, n_head: int) -> Tensor:
    return x.view(*x.shape[:2], -1, n_head).permute(0, 3, 1, 2)


def channels_first(y: Tensor) -> Tensor:
    return y.permute(0, 2, 3, 1).flatten(2)


def heads_of_that_size(x: Tensor, n_head: int) -> Tensor:
    return x.view(*x.shape[:2], -1, n_head).transpose(1, 2)


def before_the_batch(x: Tensor, n_head: int) -> Tensor:
    B, T, C = x.shape
    return x.view(n_head, B, T, C // n_head).transpose(0, 1)


def back_before_the_batch(y: Tensor) -> Tensor:
    B, nh, T, hs = y.shape
    return y.transpose(0, 1).reshape(B, T, nh * hs)


def tokens_before_the_batch(y: Tensor) -> Tensor:
    B, nh, T, hs = y.shape
    return y.permute(2, 0, 1, 3).reshape(B, T, nh * hs)


def scaled_by_the_width(q: Tensor, k: Tensor, v: Tensor, n_head: int) -> Tensor:
    return with_heads(split, merge)(q / n_head**0.5, k, v, n_head)


def _probe(B: int, T: int, nh: int, hs: int) -> tuple[Tensor, Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(1000 * B + 100 * T + 10 * nh + hs)
    q, k, v = 1.5 * torch.randn(3, B, T, nh * hs, generator=generator)
    return q, k, v.clone().requires_grad_(), nh


SPLIT_BY_VIEW = (
    "the shape is right, and the numbers are in the wrong heads: the view cut along the text, so "
    "that a head holds all channels of a few tokens. Which single axis may be cut in two, and "
    "which step then changes the order of axes?"
)
INTERLEAVED = (
    "a head got every n-th channel. In the loop it gets hs channels that lie together. In which "
    "order must the two new sizes stand, so that the inner one counts within a head?"
)
OVER_TEXTS = (
    "the heads were put in front of the batch by a view, so that a head holds some of the texts "
    "and lacks the others. Which axis comes first in memory, and should stay there?"
)
MORE_CALLS = (
    "the values are right, by more than one call: one for each head, or for each text. Give all "
    "heads of all texts to attend at once: as one more axis, in front of its last two"
)

attend_at_once = Exercise(
    reference=with_heads(split, merge),
    probes=(
        _probe(2, 5, 3, 4),
        _probe(3, 4, 2, 5),
        _probe(3, 3, 3, 3),  # all sizes alike: a wrong axis fits too
        _probe(1, 6, 4, 1),
        _probe(4, 2, 1, 6),
        _probe(2, 1, 2, 3),
    ),
    mistakes=(
        Mistake("heads by a view", SPLIT_BY_VIEW, with_heads(split_by_view, merge)),
        Mistake(
            "heads by a view, there and back",
            SPLIT_BY_VIEW + " (Viewed back the same way, the mixture only looks undone.)",
            with_heads(split_by_view, merge_by_view),
        ),
        Mistake(
            "merged by a view",
            "the heads were split rightly, and merged as they lie: head by head. What has to stand "
            "side by side, for each position, before axes can be made one?",
            with_heads(split, merge_by_view),
        ),
        Mistake(
            "a view of what is not in order",
            "after an exchange of axes no strides give the shape that view is asked for. The "
            "numbers must be copied into their new order first. Which operations do that?",
            with_heads(split, merge_by_view_where_it_lies),
        ),
        Mistake(
            "heads attend to heads",
            "the axis was cut, and left where it is: the last two axes are now (nh, hs), and at "
            "each position the heads attend to each other. Which two axes does attend work on?",
            with_heads(untransposed, lambda y: y.flatten(2)),
        ),
        Mistake(
            "the wrong axes exchanged",
            "axes 1 and 3 changed places: attend now sees (nh, T) as its last two, so that tokens "
            "became channels. Which axis should stand beside the batch?",
            with_heads(heads_last, lambda y: y.transpose(1, 3).flatten(2)),
        ),
        Mistake("every n-th channel", INTERLEAVED, with_heads(every_nth, merge)),
        Mistake("every n-th channel", INTERLEAVED, with_heads(every_nth, channels_first)),
        Mistake(
            "merged with the channels outside",
            "each position has the right numbers in the wrong order: the heads vary fastest. In "
            "the loop, all channels of head 0 come first.",
            with_heads(split, channels_first),
        ),
        Mistake(
            "heads of size n_head",
            "n_head was taken for the size of a head. How many heads are there, and how many "
            "channels are left for each?",
            with_heads(heads_of_that_size, merge),
        ),
        Mistake("heads before the batch", OVER_TEXTS, with_heads(before_the_batch, merge)),
        Mistake(
            "merged over the batch",
            "the heads were split rightly, and merged with the heads still in front of the batch, "
            "so that the texts are mixed. Which axis should come first before axes are made one?",
            with_heads(split, back_before_the_batch),
        ),
        Mistake(
            "merged with the tokens outside",
            "the heads were split rightly, and merged with the tokens in front of the batch. Which "
            "axis should come first before axes are made one?",
            with_heads(split, tokens_before_the_batch),
        ),
        Mistake(
            "one wide head",
            "all channels went into one score. Each head has its own scores, from its own "
            "channels.",
            lambda q, k, v, n_head: attend(q, k, v),
        ),
        Mistake(
            "divided by the model's width",
            "the scores are right but for a factor: the root is of all channels. One head adds up "
            "only its own.",
            scaled_by_the_width,
        ),
        Mistake(
            "not merged",
            "these are the heads, each by itself: four axes. Put each position's heads side by "
            "side again.",
            with_heads(split, lambda y: y),
        ),
        Mistake(
            "heads averaged",
            "the heads' results were averaged. They stand side by side, so that nothing is lost.",
            with_heads(split, lambda y: y.mean(1)),
        ),
        Mistake(
            "heads added up",
            "the heads' results were added. They stand side by side, so that nothing is lost.",
            with_heads(split, lambda y: y.sum(1)),
        ),
    ),
    at_most={  # a loop over the three heads of the first input makes more, however it takes them
        "aten::_softmax": (1, MORE_CALLS),
        "aten::_safe_softmax": (1, MORE_CALLS),
        "aten::_scaled_dot_product_flash_attention_for_cpu": (1, MORE_CALLS),
        "aten::bmm": (5, MORE_CALLS),
        "aten::mm": (5, MORE_CALLS),
        "aten::_log_softmax": (1, MORE_CALLS),
    },
)
