"""Lesson 17: what share of a machine's peak a training step uses."""

from collections.abc import Callable

from companion.lab.exercise import Exercise, Mistake

# of parameters, block_size, layers, width, T, rows, seconds, peak
Answer = Callable[[int, int, int, int, int, int, float, float], float]


def counted(
    *,
    weights: Callable[[int, int, int, int], float] = lambda parameters, block_size, width, T: (
        parameters - block_size * width
    ),
    each: float = 6,
    attention: Callable[[int, int, int], float] = lambda layers, width, T: 12 * layers * width * T,
    tokens: Callable[[int, int], float] = lambda rows, T: rows * T,
    share: Callable[[float, float, float], float] = lambda work, seconds, peak: (
        work / seconds / peak
    ),
) -> Answer:
    """The share by a formula of which any part may be another."""

    def answer(
        parameters: int,
        block_size: int,
        layers: int,
        width: int,
        T: int,
        rows: int,
        seconds: float,
        peak: float,
    ) -> float:
        token = each * weights(parameters, block_size, width, T) + attention(layers, width, T)
        return share(token * tokens(rows, T), seconds, peak)

    return answer


def all_of_them(parameters: int, block_size: int, width: int, T: int) -> float:
    return parameters


def none(layers: int, width: int, T: int) -> float:
    return 0


BACKWARD = (
    "this is what a model takes to read. To train it goes back as well: two products for each one "
    "of forward, one for the weight's gradient and one for the input's."
)
BATCH = "How many tokens does a step read, in all of its rows?"

share_of_peak = Exercise(
    reference=counted(),
    probes=(
        (30_000, 40, 2, 32, 16, 3, 0.5, 40e6),
        (30_000, 64, 2, 32, 64, 3, 0.5, 140e6),
        (90_000, 32, 3, 48, 24, 5, 2.0, 90e6),
        (500_000, 128, 5, 64, 128, 2, 0.25, 9e9),
        (124_439_808, 1024, 12, 768, 1024, 16, 0.05, 989e12),
        (124_439_808, 1024, 12, 768, 256, 4, 9.0, 2e11),
        (500, 8, 1, 4, 3, 1, 700.0, 40.0),
        (700, 8, 2, 4, 5, 2, 0.5, 70_000.0),
    ),
    tolerance=1e-5,
    mistakes=(
        Mistake(
            "the position table counted",
            "every parameter was counted as if it multiplied something. Rows of the position table "
            "are looked up and added: how many numbers are those?",
            counted(weights=all_of_them),
        ),
        Mistake(
            "every parameter, and no attention",
            "six operations for every parameter: so far so good, but two things differ. The "
            "position table multiplies nothing. And attention multiplies tokens with tokens, for "
            "which no parameter stands.",
            counted(weights=all_of_them, attention=none),
        ),
        Mistake(
            "as many positions as the text has",
            "the text is shorter than the position table. All of the table's rows are among the "
            "parameters, whether they are read or not.",
            counted(weights=lambda parameters, block_size, width, T: parameters - T * width),
        ),
        Mistake(
            "rows of the table, not its numbers",
            "of the position table its rows were taken off. How many numbers has a row?",
            counted(weights=lambda parameters, block_size, width, T: parameters - block_size),
        ),
        Mistake(
            "forward only",
            BACKWARD,
            counted(each=2, attention=lambda layers, width, T: 4 * layers * width * T),
        ),
        Mistake(
            "backward left out for the weights",
            BACKWARD + " Attention has it here, and the weights do not.",
            counted(each=2),
        ),
        Mistake(
            "backward left out for attention",
            "the weights are right, and attention is counted for reading only. Its products have "
            "a backward pass too.",
            counted(attention=lambda layers, width, T: 4 * layers * width * T),
        ),
        Mistake(
            "backward only",
            "forward is missing: a weight takes part in one product there and two in backward.",
            counted(each=4, attention=lambda layers, width, T: 8 * layers * width * T),
        ),
        Mistake(
            "one operation a weight",
            "each weight was counted as a single operation in each product. It is multiplied, and "
            "what comes out is added: how many are that?",
            counted(each=3, attention=lambda layers, width, T: 6 * layers * width * T),
        ),
        Mistake(
            "no attention",
            "the weights are right. But in attention tokens meet tokens, and no parameter stands "
            "for that. What does it add for each token?",
            counted(attention=none),
        ),
        Mistake(
            "attention of one layer",
            "attention was counted once, and each of the layers has one.",
            counted(attention=lambda layers, width, T: 12 * width * T),
        ),
        Mistake(
            "attention without the text's length",
            "what attention adds does not grow with T here. How many keys does one query meet?",
            counted(attention=lambda layers, width, T: 12 * layers * width),
        ),
        Mistake(
            "attention at the full block size",
            "attention was counted for texts as long as the position table. These may be shorter.",
            lambda parameters, block_size, layers, width, T, rows, seconds, peak: (
                (6 * (parameters - block_size * width) + 12 * layers * width * block_size)
                * (rows * T / seconds / peak)
            ),
        ),
        Mistake(
            "attention of all tokens for each token",
            "what attention adds has T twice: that is the whole text's. Here it is multiplied by "
            "the tokens afterwards, so what does one token add?",
            counted(attention=lambda layers, width, T: 12 * layers * width * T * T),
        ),
        Mistake(
            "only what is not masked",
            "attention was halved, since a token sees the past only. That is fair, but the usual "
            "count, which makes shares comparable, has what is masked as well.",
            counted(attention=lambda layers, width, T: 6 * layers * width * T),
        ),
        Mistake(
            "one token a step",
            "the operations of a single token were divided by the time of a whole step. " + BATCH,
            counted(tokens=lambda rows, T: 1),
        ),
        Mistake(
            "one row a step",
            "the operations of one text were divided by the time of a step. " + BATCH,
            counted(tokens=lambda rows, T: T),
        ),
        Mistake(
            "a token a row",
            "each text was counted as a single token. " + BATCH,
            counted(tokens=lambda rows, T: rows),
        ),
        Mistake(
            "rounded down",
            "whole numbers come out where fractions should. Which of Python's two divisions is it?",
            counted(share=lambda work, seconds, peak: work // seconds / peak),
        ),
        Mistake(
            "tokens a second rounded down",
            "tokens a second need not be a whole number. Which of Python's two divisions is it?",
            lambda parameters, block_size, layers, width, T, rows, seconds, peak: (
                (6 * (parameters - block_size * width) + 12 * layers * width * T)
                * (rows * T // seconds)
                / peak
            ),
        ),
        Mistake(
            "cut off at 1",
            "a share over 1 was cut to 1. On a real machine it says that the peak or the time was "
            "measured wrongly: do not hide that.",
            counted(share=lambda work, seconds, peak: min(1.0, work / seconds / peak)),
        ),
        Mistake(
            "percent",
            "it is a hundred times the share that was asked for, which is from 0 to 1.",
            counted(share=lambda work, seconds, peak: 100 * work / seconds / peak),
        ),
        Mistake(
            "seconds for a rate",
            "it was multiplied by the seconds of a step: a step that takes longer would then use "
            "more of the peak. How many operations are done in one second?",
            counted(share=lambda work, seconds, peak: work * seconds / peak),
        ),
        Mistake(
            "no time in it",
            "these are the operations of a step over those that the machine can do in a second. "
            "How long did the step take?",
            counted(share=lambda work, seconds, peak: work / peak),
        ),
        Mistake(
            "operations a second, no share",
            "this is what the machine did in a second. What could it have done?",
            counted(share=lambda work, seconds, peak: work / seconds),
        ),
        Mistake(
            "tokens a second",
            "this is how many tokens went through in a second. The share asks for operations.",
            lambda parameters, block_size, layers, width, T, rows, seconds, peak: (
                rows * T / seconds
            ),
        ),
        Mistake(
            "upside down",
            "this is how many times as fast the machine could be. The share is the other way "
            "round, and never over 1 on a real machine.",
            counted(share=lambda work, seconds, peak: peak * seconds / work),
        ),
    ),
)
