"""Lesson 13: from logits to probabilities, by temperature and top-k."""

from collections.abc import Callable

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake


def kept(logits: Tensor, top_k: int) -> Tensor:
    """True at each row's top_k largest."""
    places = logits.topk(top_k, dim=-1).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, places, True)


def reference(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = logits / temperature
    return scores.masked_fill(~kept(logits, top_k), -torch.inf).softmax(dim=-1)


def warmed(change: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float, int], Tensor]:
    """An answer that is right but for what it makes of logits and temperature."""
    return lambda logits, temperature, top_k: reference(change(logits, temperature), 1, top_k)


def cut_afterwards(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    p = (logits / temperature).softmax(-1)
    return p.masked_fill(~kept(logits, top_k), 0)


def above_the_last(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = logits / temperature
    last = scores.topk(top_k).values[:, -1:]
    return scores.masked_fill(scores <= last, -torch.inf).softmax(-1)


def of_the_batch(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = (logits / temperature).masked_fill(
        ~kept(logits.flatten()[None], top_k).view_as(logits), -torch.inf
    )
    return scores.softmax(-1)


def _probe(B: int, V: int, temperature: float, top_k: int) -> tuple[Tensor, float, int]:
    generator = torch.Generator().manual_seed(B * V)
    return 2 * torch.randn(B, V, generator=generator), temperature, top_k


MULTIPLIED = (
    "a high temperature made the row sharper. It should make it flatter: does it multiply the "
    "logits, or divide them?"
)

token_probabilities = Exercise(
    reference=reference,
    probes=(
        _probe(2, 7, 0.5, 3),
        _probe(3, 5, 2.0, 5),  # all are kept
        _probe(2, 6, 1.0, 2),
        _probe(4, 9, 1.7, 1),
        _probe(1, 11, 0.8, 4),
        (torch.tensor([[-5.0, -1.0, -3.0, -2.0]]), 0.5, 2),  # all negative
    ),
    mistakes=(
        Mistake("temperature multiplied", MULTIPLIED, warmed(lambda x, t: x * t)),
        Mistake(
            "no temperature",
            "the temperature changes nothing yet. Where does it come in?",
            warmed(lambda x, t: x),
        ),
        Mistake(
            "temperature twice",
            "the logits were divided by the temperature twice.",
            warmed(lambda x, t: x / t**2),
        ),
        Mistake(
            "no top-k",
            "every token has kept a chance. Which ones should have none?",
            lambda logits, t, k: (logits / t).softmax(-1),
        ),
        Mistake(
            "does not add up to 1",
            "the unlikely tokens were taken out of the probabilities, and what they had is gone. "
            "Take them out before they get any, or share it out again.",
            cut_afterwards,
        ),
        Mistake(
            "a logit of 0 for a token that is out",
            "a token that is out still has a chance: softmax gives a logit of 0 its share, as any "
            "other number. Which logit has a share of exactly nothing?",
            lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), 0).softmax(-1),
        ),
        Mistake(
            "the least likely kept",
            "these are the chances of the k least likely tokens.",
            lambda logits, t, k: (
                (logits / t).masked_fill(~kept(-logits, k), -torch.inf).softmax(-1)
            ),
        ),
        Mistake(
            "one too few",
            "the last of the k is out as well. Is it larger than itself?",
            above_the_last,
        ),
        Mistake(
            "the k likeliest of the batch",
            "the k tokens were chosen from the whole batch. Each row chooses its own.",
            of_the_batch,
        ),
        Mistake(
            "softmax over the batch",
            "the columns add up to 1, and the rows should. Over which axis does a row run?",
            lambda logits, t, k: (
                (logits / t).masked_fill(~kept(logits, k), -torch.inf).softmax(0).nan_to_num()
            ),
        ),
        Mistake(
            "softmax over the batch",
            "the columns add up to 1, and the rows should. Over which axis does a row run?",
            lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), -torch.inf).softmax(0),
        ),
        Mistake(
            "only k columns",
            "these are the right chances, and it is not said whose. Give every token its place; "
            "those that are out get 0.",
            lambda logits, t, k: (logits / t).topk(k).values.softmax(-1),
        ),
        Mistake(
            "scores, not probabilities",
            "these are logits still. What turns a row of them into chances that add up to 1?",
            lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), -torch.inf),
        ),
        Mistake(
            "temperature after the softmax",
            "the chances themselves were divided by the temperature, and do not add up to 1. "
            "What should it divide?",
            lambda logits, t, k: reference(logits, 1, k) / t,
        ),
        Mistake(
            "the likeliest, always",
            "all of the chance went to one token, whatever the temperature and k.",
            lambda logits, t, k: kept(logits, 1).to(logits.dtype),
        ),
    ),
)
