"""Lesson 13: one step of writing: from logits to the next token's chances."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[Tensor, float, int], Any]
EXP_IS_SAFE = 80.0  # exp of 89 is infinite in float32
NOT_NOTHING = 1e-3  # what a chance that should be 0 and is not counts for, at least


def kept(logits: Tensor, top_k: int) -> Tensor:
    """True at each row's top_k largest."""
    places = logits.topk(top_k, dim=-1).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, places, True)


def reference(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_a_row(logits[:, -1], temperature, top_k)


def of_a_row(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return cut(logits, temperature, top_k).softmax(dim=-1)


def cut(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return (logits / temperature).masked_fill(~kept(logits, top_k), -torch.inf)


def at_the_end(answer: Answer) -> Answer:
    """An answer for (B, V), given the last place of (B, T, V)."""
    return lambda logits, temperature, top_k: answer(logits[:, -1], temperature, top_k)


def warmed(change: Callable[[Tensor, float], Tensor]) -> Answer:
    """An answer that is right but for what it makes of logits and temperature."""
    return at_the_end(lambda logits, t, top_k: of_a_row(change(logits, t), 1, top_k))


@at_the_end
def cut_afterwards(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    p = (logits / temperature).softmax(-1)
    return p.masked_fill(~kept(logits, top_k), 0)


@at_the_end
def above_the_last(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = logits / temperature
    last = scores.topk(top_k).values[:, -1:]
    return scores.masked_fill(scores <= last, -torch.inf).softmax(-1)


@at_the_end
def of_the_batch(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = (logits / temperature).masked_fill(
        ~kept(logits.flatten()[None], top_k).view_as(logits), -torch.inf
    )
    return scores.softmax(-1)


@at_the_end
def by_exponentials(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    powers = cut(logits, temperature, top_k).exp()
    return powers / powers.sum(-1, keepdim=True)


@at_the_end
def first_columns(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    scores = logits / temperature
    out = torch.arange(logits.shape[1]) >= top_k
    return scores.masked_fill(out, -torch.inf).softmax(-1)


@at_the_end
def in_order(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return of_a_row(logits, temperature, top_k).sort(descending=True).values


def looked_at(answer: Answer, logits: Tensor, temperature: float, top_k: int) -> Any:
    """What it returned; where 0 is due, a chance too small to be seen counts as 0.001."""
    out = ~kept(logits[:, -1], top_k)
    got = answer(logits, temperature, top_k)
    if not isinstance(got, Tensor) or got.shape != out.shape or not got.is_floating_point():
        return got
    return got.masked_fill(out & (got != 0) & (got.abs() < NOT_NOTHING), NOT_NOTHING)


def line_of_all(choose: Callable[[Tensor], Tensor]) -> Answer:
    """One line for all rows, chosen from the rows' own lines (B, 1)."""

    def answer(logits: Tensor, temperature: float, top_k: int) -> Tensor:
        line = choose(logits.topk(top_k).values[:, -1:])
        return (logits / temperature).masked_fill(logits < line, -torch.inf).softmax(-1)

    return at_the_end(answer)


def nearly_nothing(got: Any, want: Tensor, logits: Tensor, t: float, k: int) -> bool:
    """Right where a token has a chance, and next to nothing, not 0, where it has none."""
    if not isinstance(got, Tensor) or got.shape != want.shape or got.dtype != want.dtype:
        return False
    out = ~kept(logits[:, -1], k)
    close = torch.allclose(got.masked_fill(out, 0), want, rtol=1e-4, atol=1e-4)
    return close and bool((got[out].abs() <= 1.01 * NOT_NOTHING).all())


def in_another_dtype(got: Any, want: Tensor, logits: Tensor, t: float, k: int) -> bool:
    """Right, but for the dtype of some inputs or of all."""
    if not isinstance(got, Tensor) or got.shape != want.shape or not got.is_floating_point():
        return False
    return torch.allclose(got.to(want), want, atol=1e-4 if got.dtype == want.dtype else 1e-2)


def breaks_where_large(got: Any, want: Tensor, logits: Tensor, t: float, k: int) -> bool:
    """Right for small logits, and no number for large ones."""
    if not isinstance(got, Tensor) or got.shape != want.shape:
        return False
    right = torch.allclose(got.to(want), want, atol=1e-4)
    large = (logits / t).abs().max() >= EXP_IS_SAFE
    return right or bool(large and not got.isfinite().all())


def is_a_token(got: Any, want: Tensor, logits: Tensor, t: float, k: int) -> bool:
    B = len(logits)
    whole = isinstance(got, Tensor) and not got.is_floating_point()
    return whole and got.shape in ((B,), (B, 1))


def _probe(B: int, T: int, V: int, temperature: float, top_k: int) -> tuple[Tensor, float, int]:
    generator = torch.Generator().manual_seed(B * V)
    return 2 * torch.randn(B, T, V, generator=generator), temperature, top_k


def _large() -> Tensor:
    """Some rows near 230, some near -300, at both places."""
    ends = torch.tensor(
        [[231.0, 229.5, 200.0, 230.5, 150.0], [-299.0, -300.0, -298.5, -350.0, -301]]
    )
    return torch.stack([ends.flip(1), ends], dim=1)  # (2, 2, 5)


def _in_bfloat16() -> Tensor:
    """Far apart: the likeliest gets 1 to the last bit, however it is computed."""
    rows = [[[0, -60, 30, -30], [-30, 30, 0, -90]], [[-30, 0, -60, -120], [-60, -30, -90, 0]]]
    return torch.tensor(rows, dtype=torch.bfloat16)  # (2, 2, 4)


MULTIPLIED = (
    "a high temperature made the row sharper. It should make it flatter: does it multiply the "
    "logits, or divide them?"
)

token_probabilities = Exercise(
    reference=reference,
    probes=(
        _probe(2, 3, 7, 0.5, 3),
        _probe(3, 4, 5, 2.0, 5),  # all are kept
        _probe(2, 2, 6, 1.0, 2),
        _probe(4, 5, 9, 1.7, 1),
        _probe(3, 3, 11, 0.8, 4),
        (torch.tensor([[[9.0, 0.0, 0.0, 0.0], [-5.0, -1.0, -3.0, -2.0]]]), 0.5, 2),  # all negative
        (_large(), 0.25, 3),
        (_large(), 1.0, 4),
        (_large() - 2000, 0.5, 2),
        _probe(2, 2, 70, 1.0, 60),
        _probe(2, 3, 300, 5.0, 200),
        _probe(3, 2, 8, 0.1, 4),
        (_large() - 20_000, 0.5, 2),
        _probe(3, 2, 9, 1.5, 4),  # int() would make it 1
        (_probe(3, 2, 6, 1.0, 3)[0] / 20, 0.05, 3),
        (_in_bfloat16(), 0.5, 1),
    ),
    look=looked_at,
    mistakes=(
        Mistake(
            "nearly nothing is not nothing",
            "the chances are right, but a token that is out has kept a tiny one. It should be 0 "
            "to the last bit: of many thousand tokens, some would be drawn by it.",
            at_the_end(lambda logits, t, k: of_a_row(logits, t, k).clamp_min(1e-6)),
            nearly_nothing,
        ),
        Mistake(
            "another dtype",
            "these are the right chances, in another dtype than the logits came in. Where was it "
            "changed, and where should it be changed back?",
            lambda logits, t, k: reference(logits.float(), t, k),
            in_another_dtype,
        ),
        Mistake("temperature multiplied", MULTIPLIED, warmed(lambda x, t: x * t)),
        Mistake(
            "no temperature",
            "the temperature changes nothing yet. Where does it come in?",
            warmed(lambda x, t: x),
        ),
        Mistake(
            "a whole temperature",
            "a temperature between 1 and 2 changes nothing, as if it were 1. Where does it lose "
            "its fraction?",
            warmed(lambda x, t: x / (int(t) or t)),
        ),
        Mistake(
            "temperature twice",
            "the logits were divided by the temperature twice.",
            warmed(lambda x, t: x / t**2),
        ),
        Mistake(
            "no top-k",
            "every token has kept a chance. Which ones should have none?",
            at_the_end(lambda logits, t, k: (logits / t).softmax(-1)),
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
            at_the_end(
                lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), 0).softmax(-1)
            ),
        ),
        Mistake(
            "the least likely kept",
            "these are the chances of the k least likely tokens.",
            at_the_end(
                lambda logits, t, k: (
                    (logits / t).masked_fill(~kept(-logits, k), -torch.inf).softmax(-1)
                )
            ),
        ),
        Mistake(
            "one too few",
            "only k - 1 tokens have a chance. Which of the k is missing, and what put it out?",
            above_the_last,
        ),
        Mistake(
            "one too many",
            "k + 1 tokens have a chance. Where does your count begin?",
            at_the_end(lambda logits, t, k: of_a_row(logits, t, min(k + 1, logits.shape[1]))),
        ),
        Mistake(
            "one text's line for all",
            "the first text's k-th logit was the line for every text. Each row has its own.",
            line_of_all(lambda lines: lines[0]),
        ),
        Mistake(
            "one line for the batch",
            "the lowest of the rows' lines was the line for every text. Each row has its own.",
            line_of_all(lambda lines: lines.min()),
        ),
        Mistake(
            "the k likeliest of the batch",
            "the k tokens were chosen from the whole batch. Each row chooses its own.",
            of_the_batch,
        ),
        Mistake(
            "softmax over the batch",
            "the columns add up to 1, and the rows should. Over which axis does a row run?",
            at_the_end(
                lambda logits, t, k: (
                    (logits / t).masked_fill(~kept(logits, k), -torch.inf).softmax(0).nan_to_num()
                )
            ),
        ),
        Mistake(
            "softmax over the batch",
            "the columns add up to 1, and the rows should. Over which axis does a row run?",
            at_the_end(
                lambda logits, t, k: (
                    (logits / t).masked_fill(~kept(logits, k), -torch.inf).softmax(0)
                )
            ),
        ),
        Mistake(
            "only k columns",
            "these are the right chances, and it is not said whose. Give every token its place; "
            "those that are out get 0.",
            at_the_end(lambda logits, t, k: (logits / t).topk(k).values.softmax(-1)),
        ),
        Mistake(
            "scores, not probabilities",
            "these are logits still. What turns a row of them into chances that add up to 1?",
            at_the_end(lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), -torch.inf)),
        ),
        Mistake(
            "temperature after the softmax",
            "the chances themselves were divided by the temperature, and do not add up to 1. "
            "What should it divide?",
            at_the_end(lambda logits, t, k: of_a_row(logits, 1, k) / t),
        ),
        Mistake(
            "the likeliest, always",
            "all of the chance went to one token, whatever the temperature and k.",
            at_the_end(lambda logits, t, k: kept(logits, 1).to(logits.dtype)),
        ),
        Mistake(
            "the first place",
            "these are the chances of the second token: the logits at a place are for what comes "
            "after it. After which place is a token missing?",
            lambda logits, t, k: of_a_row(logits[:, 0], t, k),
        ),
        Mistake(
            "the place before the last",
            "these are the chances of the last token, which is known: the logits at a place are "
            "for what comes after it. After which place is a token missing?",
            lambda logits, t, k: of_a_row(logits[:, -2], t, k),
        ),
        Mistake(
            "texts and places in one",
            "batch and places were flattened into one axis, as for a loss. Only one place of each "
            "text is followed by a token that nobody knows.",
            lambda logits, t, k: of_a_row(logits.flatten(0, 1), t, k),
        ),
        Mistake(
            "every place, and no top-k",
            "these are chances of all tokens at each of the T places. Only one place of each text "
            "is followed by a token that nobody knows, and only k tokens take part.",
            lambda logits, t, k: (logits / t).softmax(-1),
        ),
        Mistake(
            "softmax twice",
            "these are chances of chances: softmax was taken of what had been through a softmax. "
            "Which of the two is one too many?",
            at_the_end(lambda logits, t, k: of_a_row(logits, t, k).softmax(-1)),
        ),
        Mistake(
            "softmax before the knobs",
            "softmax was taken twice: of the logits, and again of chances that had been divided "
            "by the temperature and cut. The knobs turn logits.",
            at_the_end(lambda logits, t, k: of_a_row(logits.softmax(-1), t, k)),
        ),
        Mistake(
            "every place",
            "these are chances at each of the T places. Only one token is to be drawn, and all but "
            "one of the places are followed by a token that is known.",
            lambda logits, t, k: (
                (logits / t)
                .masked_fill(logits < logits.topk(k).values.min(-1, keepdim=True)[0], -torch.inf)
                .softmax(-1)
            ),
        ),
        Mistake(
            "one axis too many",
            "these are the right chances, as (B, 1, V): a slice keeps its axis, and a number "
            "drops it.",
            lambda logits, t, k: reference(logits, t, k)[:, None],
        ),
        Mistake(
            "the last text",
            "the first axis is the batch, so these are the chances at all places of the last "
            "text. Every text needs its own, at one place.",
            lambda logits, t, k: of_a_row(logits[-1], t, k),
        ),
        Mistake(
            "the mean of the places",
            "the logits of all places were averaged. Each place already looks at all before it: "
            "one of them alone says what comes next.",
            lambda logits, t, k: of_a_row(logits.mean(1), t, k),
        ),
        Mistake(
            "exp of large logits",
            "it is right for small logits and no number for large ones: in float32 the exp of 89 "
            "is infinite, that of -104 is 0, and neither can be divided by itself. Softmax sees "
            "only differences: what can be taken off every number of a row beforehand?",
            by_exponentials,
            breaks_where_large,
        ),
        Mistake(
            "the first k columns",
            "the tokens with the smallest ids were kept, whatever their logits. Which k should "
            "it be?",
            first_columns,
        ),
        Mistake(
            "in order of likelihood",
            "these are the right chances, the largest first, so that nobody knows which token "
            "each belongs to. Keep every token in its own column.",
            in_order,
        ),
        Mistake(
            "the largest by size",
            "a logit far below 0 was kept, as if it were large. Likely is what is high, not what "
            "is far from 0.",
            at_the_end(
                lambda logits, t, k: (
                    (logits / t).masked_fill(~kept(logits.abs(), k), -torch.inf).softmax(-1)
                )
            ),
        ),
        Mistake(
            "logarithms of chances",
            "these are the logarithms of the chances, as a loss needs them. To draw, the chances "
            "themselves are needed.",
            at_the_end(lambda logits, t, k: cut(logits, t, k).log_softmax(-1)),
        ),
        Mistake(
            "a token, not chances",
            "this is a token already: somebody else draws. Return the chances that it is drawn by.",
            lambda logits, t, k: logits[:, -1].argmax(-1, keepdim=True),
            is_a_token,
        ),
        Mistake(
            "neither temperature nor top-k",
            "these are the model's own chances, at the right place. Neither of the two knobs was "
            "turned yet.",
            at_the_end(lambda logits, t, k: logits.softmax(-1)),
        ),
        Mistake(
            "a logit of -100 for a token that is out",
            "it is right while all logits are near 0. Beside logits of -300, -100 is likely. "
            "Which number lies below every logit?",
            at_the_end(
                lambda logits, t, k: (logits / t).masked_fill(~kept(logits, k), -100).softmax(-1)
            ),
        ),
        Mistake(
            "a logit of -1000 for a token that is out",
            "it is right until the logits themselves lie below -1000. Which number lies below "
            "every logit?",
            at_the_end(
                lambda logits, t, k: (logits.masked_fill(~kept(logits, k), -1000) / t).softmax(-1)
            ),
        ),
        Mistake(
            "a logit of -10000 for a token that is out",
            "it is right until the logits themselves lie below -10000. Which number lies below "
            "every logit?",
            at_the_end(
                lambda logits, t, k: (logits.masked_fill(~kept(logits, k), -1e4) / t).softmax(-1)
            ),
        ),
        Mistake(
            "cut off at k columns",
            "these are the chances of the tokens with the k smallest ids, and the rest was cut "
            "off. Which k should take part? And those that are out keep their columns, with 0.",
            at_the_end(lambda logits, t, k: (logits / t)[..., :k].softmax(-1)),
        ),
        Mistake(
            "values and places",
            "this is what topk returns, values and places. It says who takes part; what is wanted "
            "is a row of V chances for each text.",
            at_the_end(lambda logits, t, k: (logits / t).topk(k)),
        ),
    ),
)
