"""Lesson 19: the number on which each process calls backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[Tensor, int, int, int], Any]  # of losses, world, micro_steps, step_tokens


def losses(count: int) -> Tensor:
    """What the model lost on each of a micro-batch's tokens that count."""
    random = torch.Generator().manual_seed(count)
    return torch.rand(count, generator=random).mul(3).add(1).requires_grad_()


def right_share(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() * world / step_tokens


def plain_mean(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean()


def mean_of_means(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() / micro_steps


def mean_over_both(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() / (micro_steps * world)


def mean_by_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() / world


def means_times_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() * world / micro_steps


def mean_times_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() * world


def no_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() / step_tokens


def divided_by_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() / step_tokens / world


def divided_by_micro(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() * world / step_tokens / micro_steps


def times_micro(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() * world * micro_steps / step_tokens


def both_forgotten(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() / step_tokens / micro_steps


def mean_for_sum(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() * world / step_tokens


def mean_times_count(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.mean() * len(losses) * world / step_tokens


def micro_for_world(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() * micro_steps / step_tokens


def plain_sum(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum()


def token_by_token(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses * world / step_tokens


def upside_down(losses: Tensor, world: int, micro_steps: int, step_tokens: int) -> Tensor:
    return losses.sum() * step_tokens / world


EVEN = (
    "It would do if all micro-batches of all processes had as many tokens as each other. Here some "
    "have fewer, and each token of those would count for more."
)
DDP = (
    "Follow one token's share through DDP: what becomes of it on the way from one process's "
    "gradients to those that all have?"
)

to_backward = Exercise(
    reference=right_share,
    probes=(
        (losses(6), 2, 3, 29),
        (losses(1), 2, 3, 29),
        (losses(5), 3, 1, 12),
        (losses(4), 1, 4, 15),
        (losses(7), 8, 2, 100),
        (losses(0), 2, 3, 29),
    ),
    tolerance=1e-5,
    show=lambda losses, world, micro_steps, step_tokens: (
        f"{len(losses)} tokens, {world=}, {micro_steps=}, {step_tokens=}"
    ),
    mistakes=(
        Mistake(
            "as if there were one batch",
            "this is the mean of one micro-batch. Backward adds up the gradients of all of a "
            "step's micro-batches, so that they come out too large together.",
            plain_mean,
        ),
        Mistake(
            "a mean of means",
            "every micro-batch counts as much as any other. " + EVEN,
            mean_of_means,
        ),
        Mistake(
            "a mean of means, divided by the processes too",
            "every micro-batch counts as much as any other, and the number of processes is divided "
            "by twice: " + DDP,
            mean_over_both,
        ),
        Mistake(
            "a mean, divided by the processes",
            "this divides by the number of processes, and nothing here stands for the tokens of "
            "the other micro-batches. " + DDP,
            mean_by_world,
        ),
        Mistake(
            "a mean of means, times the processes",
            "a mean of a micro-batch's own tokens is no part of a sum that DDP's division would "
            "shrink. And every micro-batch counts as much as any other here. " + EVEN,
            means_times_world,
        ),
        Mistake(
            "a mean, times the processes",
            "this makes up for DDP's division, but begins with the mean of one micro-batch, and "
            "the step has several: by how many tokens is each loss of the step divided?",
            mean_times_world,
        ),
        Mistake(
            "what DDP divides by",
            "each token has its share of the whole step, and one process alone would be right. "
            "With several the gradients come out too small. " + DDP,
            no_world,
        ),
        Mistake(
            "divided by the processes twice",
            "each token has its share of the whole step, and then the number of processes goes the "
            "wrong way. " + DDP,
            divided_by_world,
        ),
        Mistake(
            "micro-batches divided by twice",
            "the step's tokens are those of all its micro-batches already: nothing is left to be "
            "divided by their number.",
            divided_by_micro,
        ),
        Mistake(
            "micro-batches multiplied by",
            "gradients of micro-batches are added up, and DDP does not divide by their number: "
            "nothing has to make up for it.",
            times_micro,
        ),
        Mistake(
            "divided by micro-batches for processes",
            "the step's tokens are those of all its micro-batches already. And what DDP divides "
            "by, the number of processes, is not made up for.",
            both_forgotten,
        ),
        Mistake(
            "the mean weighed as a sum",
            "these losses were divided by their own number and then by the whole step's: one of "
            "the two is too many.",
            mean_for_sum,
        ),
        Mistake(
            "nan without tokens",
            "right, but for a micro-batch in which no token counts (the last input): its mean is 0 "
            "by 0, nan, and one nan makes all of the step's gradients nan.",
            mean_times_count,
        ),
        Mistake(
            "micro-batches for processes",
            "each token has its share of the whole step. Gradients of micro-batches are only added "
            "up, so their number has to make up for nothing. " + DDP,
            micro_for_world,
        ),
        Mistake(
            "the sum of all",
            "a sum grows with the batch, and so would the gradients. The learning rate was chosen "
            "for a mean: over which tokens?",
            plain_sum,
        ),
        Mistake(
            "one number a token",
            "each token's share is right, and backward wants a single number of them all.",
            token_by_token,
        ),
        Mistake(
            "upside down",
            "the more tokens a step has, the more this makes of each. Each should count for less.",
            upside_down,
        ),
    ),
)
