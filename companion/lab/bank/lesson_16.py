"""Lesson 16: an attention in which three things are typed wrong, to be mended by the report."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.lab.bank.lesson_10 import fill, text
from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise, Mistake

Seen = dict[str, Any]

SHORT, LONG = "a short text", "a text of block_size"
TWICE = "a text read twice in eval mode"
TAUGHT = "a text read twice while training"
SILENT = "the share of zeros in attention's dropout"
WHOLE = "what attention's dropout cuts off, always a whole head of a token"
SPARE = "rows of a mask beyond block_size"


def look(answer: Callable[..., nn.Module], C: int, n_head: int, block_size: int) -> Seen:
    """Give it known weights and texts to read, in eval mode and while training."""
    module = answer(C, n_head, block_size)
    if module is None or module is ...:
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a layer, an nn.Module; this is a {type(module).__name__}")
    fill(module, C)
    module.eval()
    with torch.no_grad():
        short = module(text(C, 5, rows=3))
        seen = {
            SHORT: short,
            TWICE: bool(torch.equal(short, module(text(C, 5, rows=3)))),
            LONG: or_error(module, text(C, block_size, rows=1)),
        }
        module.train()
        twice = [module(text(C, 5, rows=3)) for _ in range(2)]
        seen[TAUGHT] = bool(torch.equal(*twice))
        seen[SILENT], seen[WHOLE] = silent(module, C, n_head)
    squares = [x for m in module.modules() for x in m.buffers(recurse=False) if x.dim() > 1]
    return seen | {SPARE: max([0, *(x.shape[-1] - block_size for x in squares)])}


def or_error(module: nn.Module, x: Tensor) -> Tensor | str:
    """What it returns, or what kind of error it raises."""
    try:
        return module(x)
    except (RuntimeError, IndexError, ValueError) as error:
        return f"a {type(error).__name__}"


def silent(module: nn.Module, C: int, n_head: int) -> tuple[float, bool]:
    """How often the first token, which sees itself alone, is cut off from its value: in tenths.

    And whether that is by the weight: then all numbers of a head go together.
    """
    with torch.no_grad():
        module.c_proj.weight.copy_(torch.eye(C))
        module.c_proj.bias.zero_()
    zeros = module(text(C, 1).repeat(600, 1, 1)) == 0
    heads = zeros.unflatten(-1, (n_head, -1)).float().mean(-1)
    return round(zeros.float().mean().item(), 1), bool(((heads == 0) | (heads == 1)).all())


# --- answers ------------------------------------------------------------------------------------


class Mended(nn.Module):
    """The right one; each method is a place to leave wrong, or to mend wrongly."""

    def __init__(self, n_embd: int, n_head: int, block_size: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.n_head, self.block_size = n_head, block_size
        mask = torch.ones(*[self.rows(n_embd, block_size)] * 2, dtype=torch.bool).tril()
        self.register_buffer("mask", mask, persistent=False)

    def rows(self, n_embd: int, block_size: int) -> int:
        return block_size

    def forward(self, x: Tensor, cache: Any = None) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1)
        )
        scores = q @ k.mT / sqrt(C // self.n_head)  # (B, nh, T, T)
        weights = self.drop(self.weights(scores, T))
        return self.c_proj(self.sums(weights @ v).transpose(1, 2).reshape(B, T, C))

    def weights(self, scores: Tensor, T: int) -> Tensor:
        return scores.masked_fill(~self.cut(T), -torch.inf).softmax(dim=-1)

    def cut(self, T: int) -> Tensor:
        return self.mask[:T, :T]

    def drop(self, weights: Tensor) -> Tensor:
        return F.dropout(weights, 0.1, training=self.training)

    def sums(self, y: Tensor) -> Tensor:
        return y


class OfWidth(Mended):
    def rows(self, n_embd, block_size):
        return n_embd


class TooLarge(Mended):
    def rows(self, n_embd, block_size):
        return 1024


class OfTheLarger(Mended):
    def rows(self, n_embd, block_size):
        return max(n_embd, block_size)


class Uncut(Mended):
    def cut(self, T):
        return self.mask


class NoMask(Mended):
    def weights(self, scores, T):
        return scores.softmax(dim=-1)


class OneTooFar(Mended):
    def cut(self, T):
        return torch.ones(T, T, dtype=torch.bool).tril(diagonal=1)


class OverQueries(Mended):
    def weights(self, scores, T):
        return scores.masked_fill(~self.cut(T), -torch.inf).softmax(dim=-2)


class OverHeads(Mended):
    def weights(self, scores, T):
        return scores.softmax(dim=1) * self.cut(T)


class MaskedAfter(Mended):
    def weights(self, scores, T):
        return scores.softmax(dim=-1) * self.cut(T)


class StaysOn(Mended):
    def drop(self, weights):
        return F.dropout(weights, 0.1)


class NoDropout(Mended):
    def drop(self, weights):
        return weights


class OnSums(NoDropout):
    def sums(self, y):
        return F.dropout(y, 0.1, training=self.training)


class OnScores(NoDropout):
    def weights(self, scores, T):
        return super().weights(F.dropout(scores, 0.1, training=self.training), T)


class TurnedRound(Mended):
    def drop(self, weights):
        return F.dropout(weights, 0.1, training=not self.training)


class Half(Mended):
    def drop(self, weights):
        return F.dropout(weights, training=self.training)


class AsItCame(OfWidth, OverQueries, StaysOn):
    pass


# --- what tells a mistake ------------------------------------------------------------------------


def same(seen: Seen, want: Seen, *names: str) -> bool:
    return all(first_difference(seen[name], want[name], 1e-4) is None for name in names)


def fails_when_long(seen: Seen, want: Seen, C: int, n_head: int, block_size: int) -> bool:
    return isinstance(seen[LONG], str) or block_size < C


def has_rows_of_the_larger(seen: Seen, want: Seen, C: int, n_head: int, block_size: int) -> bool:
    return seen[SPARE] == max(0, C - block_size) and same(seen, want, SHORT, LONG)


def has_spare_rows(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[SPARE] > 0 and same(seen, want, SHORT, LONG)


def moves_in_eval(seen: Seen, want: Seen, *probe: int) -> bool:
    return not seen[TWICE] and not seen[TAUGHT]


def moves_in_eval_alone(seen: Seen, want: Seen, *probe: int) -> bool:
    return not seen[TWICE] and seen[TAUGHT]


def stays_put(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[TWICE] and seen[TAUGHT] and same(seen, want, SHORT, LONG)


def at_another_rate(seen: Seen, want: Seen, *probe: int) -> bool:
    return drops_elsewhere(seen, want) and seen[WHOLE] and seen[SILENT] > 0


def drops_numbers(seen: Seen, want: Seen, *probe: int) -> bool:
    return drops_elsewhere(seen, want) and not seen[WHOLE]


def drops_no_weight(seen: Seen, want: Seen, *probe: int) -> bool:
    return drops_elsewhere(seen, want) and seen[SILENT] == 0


def drops_elsewhere(seen: Seen, want: Seen) -> bool:
    return not seen[TAUGHT] and same(seen, want, SHORT, LONG, TWICE, SPARE)


def untouched(seen: Seen, want: Seen, *probe: int) -> bool:
    return fails_when_long(seen, want, *probe) and moves_in_eval(seen, want)


FIRST = (
    "a full text still makes it raise. Run the doctor on it: which finding stands first, and what "
    "does it say it measured?"
)

mended_attention = Exercise(
    reference=Mended,
    probes=[(16, 2, 24), (24, 4, 32), (12, 3, 16), (24, 4, 8)],
    look=look,
    mistakes=[
        Mistake("as it came", FIRST, AsItCame, untouched),
        Mistake(
            "the mask has n_embd rows",
            "a text of block_size tokens makes it raise. What do a mask's rows stand for, and "
            "which argument says how many of those there may be?",
            OfWidth,
            fails_when_long,
        ),
        Mistake(
            "a mask of the larger of the two",
            "it never fails now, and where the model is wider than a text is long it keeps rows "
            "that no text can reach, as in the sizes of GPT-2 at the top of the lesson. Does a "
            "mask have to know the width at all?",
            OfTheLarger,
            has_rows_of_the_larger,
        ),
        Mistake(
            "a mask of some other size",
            "it computes what it should, and keeps a mask with rows that no text can reach. Of "
            "what size does it have to be, and no larger?",
            TooLarge,
            has_spare_rows,
        ),
        Mistake(
            "the mask is not cut to the text",
            "the mask has block_size rows and the text fewer, so their shapes do not go together: "
            "use the corner that the text needs.",
            Uncut,
        ),
        Mistake(
            "dropout stays on",
            "in eval mode a text read twice gets two answers. A function does not know the mode "
            "that its module is in, unless it is told.",
            StaysOn,
            moves_in_eval,
        ),
        Mistake(
            "dropout the wrong way round",
            "it drops in eval mode, and not while training. In which of the two is self.training "
            "true?",
            TurnedRound,
            moves_in_eval_alone,
        ),
        Mistake(
            "no dropout while training",
            "dropout is gone, also while training. The report asked for the same answer twice in "
            "eval mode, and no more than that.",
            NoDropout,
            stays_put,
        ),
        Mistake(
            "dropout on single numbers",
            "it drops at the right times, but cuts single numbers out of values, or of their sums. "
            "The docstring says what dropout is on: without its weight, a token is not heard at "
            "all in that head.",
            OnSums,
            drops_numbers,
        ),
        Mistake(
            "dropout on the scores",
            "a score set to 0 is a score like another, and softmax gives it weight. No key is "
            "dropped that way. What does the docstring say dropout is on?",
            OnScores,
            drops_no_weight,
        ),
        Mistake(
            "another rate of dropout",
            "it drops while training and not in eval mode, as it should, but not one weight in "
            "ten. What does the function take when no rate is given?",
            Half,
            at_another_rate,
        ),
        Mistake(
            "softmax over the queries",
            "a token's answer still moves when a later one is replaced. The mask is right; but "
            "what has to add up to 1 are the weights that one query gives to its keys. Which axis "
            "is that?",
            OverQueries,
        ),
        Mistake(
            "softmax over the heads",
            "the weights of one query should add up to 1 over its keys, not over the heads. The "
            "axes of scores are (B, nh, queries, keys).",
            OverHeads,
        ),
        Mistake(
            "masked after the softmax",
            "what the mask hides has weight 0, and yet was counted in the sum that the others "
            "were divided by. Hide it before.",
            MaskedAfter,
        ),
        Mistake(
            "the mask is gone",
            "each token now sees all that come after it. The report did not complain of the mask's "
            "being there; it was of the wrong size.",
            NoMask,
        ),
        Mistake(
            "the mask is one too far",
            "each token sees the one after it, which is the one it is asked for. A query may look "
            "at itself and at what came before.",
            OneTooFar,
        ),
    ],
)
