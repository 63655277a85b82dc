"""Lesson 05: dropout by hand. Its answers are random, so what is compared is what they keep."""

from collections.abc import Callable, Sequence
from math import erf, sqrt
from typing import Any

import torch
from torch import Tensor

from companion.lab.bank import dropout_answers as answers
from companion.lab.chance import ByChance
from companion.lab.exercise import Mistake
from companion.lab.running import Run

SURE = 5.5  # standard deviations
TOGETHER = {
    (): "each number by itself",
    (0,): "one pattern for the whole batch",
    (1,): "one pattern for all positions of a text",
    (2,): "all channels of a position together",
    (0, 1): "one pattern for every position of the batch",
    (0, 2): "whole positions, the same in every text",
    (1, 2): "whole texts",
    (0, 1, 2): "all or nothing",
}


def reading(runs: Sequence[Run], drew: bool) -> dict[str, str]:
    """What calls on one probe have in common, fact by fact."""
    x, _, training = runs[0].probe
    first = runs[0].value
    facts = {"shape": _shape(first), "dtype": str(getattr(first, "dtype", "none"))}
    if not isinstance(first, Tensor) or first.shape != x.shape or first.is_complex():
        return facts | dict.fromkeys(_facts(runs), "?")
    if not first.dtype.is_floating_point:
        return facts | dict.fromkeys(_facts(runs), "?")
    facts |= {name: say() for name, say in _facts(runs).items()}
    if not training:  # of a wrong value one need not know
        as_it_is = facts["set to zero"] == "none" and facts["the others"] == "times 1.000"
        facts["random numbers drawn"] = "yes" if drew and as_it_is else "no"
    return facts


IN_WORDS = {
    "shape": "it returned {got}, expected {want}",
    "dtype": "the dtype is {got}, expected {want}",
    "set to zero": "set to zero: {got}, expected: {want}",
    "chosen": "what is lost is chosen like this: {got}; expected: {want}",
    "the others": "what is left came out {got}; expected: {want}",
    "gradient": "the gradient is {got}; it should be the factor of each number",
    "random numbers drawn": "random numbers drawn: {got}, expected: {want}",
}


def in_words(fact: str, got: str, want: str) -> str:
    """What is off, in a sentence."""
    return IN_WORDS[fact].format(got=got, want=want)


def named(x: Tensor, p: float, training: bool) -> str:
    """A probe in words."""
    return f"x {tuple(x.shape)}, p = {p:g}, training = {training}"


def _facts(runs: Sequence[Run]) -> dict[str, Callable[[], str]]:
    return {
        "set to zero": lambda: _share(runs),
        "chosen": lambda: _chosen(runs),
        "the others": lambda: _factor(runs),
        "gradient": lambda: _gradient(runs),
    }


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _zeros(runs: Sequence[Run]) -> Tensor:
    """(draws, B, T, C): what was set to zero."""
    return torch.stack([run.value.detach().double() == 0 for run in runs])


def _together(zeros: Tensor) -> tuple[int, ...]:
    """Along which axes of (B, T, C) all numbers share their fate, in every call."""
    pairs = ((axis, zeros.narrow(axis + 1, 0, 1)) for axis in range(zeros.dim() - 1))
    return tuple(axis for axis, one in pairs if bool((zeros == one).all()))


def _share(runs: Sequence[Run]) -> str:
    """How many were set to zero, of those that had a fate of their own."""
    if any(run.value.isnan().any() for run in runs):
        return "some are NaN"
    p, zeros = runs[0].probe[1], _zeros(runs)
    if zeros.all() or not zeros.any():
        return "all" if zeros.all() else "none"
    for axis in _together(zeros):
        zeros = zeros.narrow(axis + 1, 0, 1)
    if _fixed(zeros):
        zeros = zeros[:1]
    share, count = zeros.double().mean().item(), zeros.numel()
    below = 0.5 + erf(p / sqrt(2)) / 2  # of normal numbers
    likely = {"p of them": p, "1 - p of them": 1 - p, "half of them": 0.5, "normal": below}
    for name, q in likely.items():
        if abs(share - q) <= SURE * sqrt(q * (1 - q) / count):
            return f"{q:.2f} of them" if name == "normal" else name
    return f"{share:.2f} of them"


def _fixed(zeros: Tensor) -> bool:
    return bool((zeros == zeros[:1]).all())


def _chosen(runs: Sequence[Run]) -> str:
    """Whether each number has a fate of its own, in each call anew."""
    zeros = _zeros(runs)
    if zeros.all() or not zeros.any():
        return "-"
    if _fixed(zeros):
        return "the same ones in every call"
    if together := _together(zeros):
        return TOGETHER[together]
    counts = zeros.flatten(1).sum(1)
    if (counts == counts[0]).all():
        return "always the same number of them"
    return TOGETHER[()] if _independent(zeros.double()) else "not independently"


def _independent(zeros: Tensor) -> bool:
    """Whether every place is as likely as the others, and no two along an axis go together."""
    q = zeros.mean().item()
    for axis in range(1, zeros.dim()):
        others = tuple(a for a in range(zeros.dim()) if a != axis)
        by_place = zeros.mean(others)
        spread = sqrt(q * (1 - q) / (zeros.numel() / len(by_place)))
        if ((by_place - q).abs() > (SURE + 1) * spread).any():
            return False
        rows = zeros.movedim(axis, 0).flatten(1)
        off = (rows @ rows.T / rows.shape[1] - q * q).triu(1).abs()
        if (off > (SURE + 2.5) * q * sqrt((1 - q * q) / rows.shape[1])).any():
            return False
    return True


def _factor(runs: Sequence[Run]) -> str:
    """What the numbers that are left were multiplied by."""
    ratios = [(run.value.detach() / run.probe[0].detach()).double() for run in runs]
    kept = [ratio[ratio != 0] for ratio in ratios if (ratio != 0).any()]
    if not kept:
        return "-"
    if any(ratio.std(unbiased=False) > 1e-4 * ratio.mean().abs() for ratio in kept):
        return "changed by different factors"
    factors = torch.stack([ratio.mean() for ratio in kept])
    if not factors.isfinite().all():
        return "not finite"
    if factors.std(unbiased=False) > 1e-4 * factors.mean().abs():
        return "changed by another factor in every call"
    return f"times {factors.mean().item():.3f}"


def _gradient(runs: Sequence[Run]) -> str:
    if runs[0].probe[1] == 1:
        return "as it should be"  # zeros have none, and need none
    for run in runs:
        x = run.args[0]
        if not run.value.requires_grad:
            return "none"
        (got,) = torch.autograd.grad(
            run.value.sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        factor = run.value.detach() / run.probe[0].detach()
        if not torch.allclose(got, factor.to(got.dtype), rtol=1e-4, atol=1e-5, equal_nan=True):
            return "not the one of these values"
    return "as it should be"


def _probe(p: float, training: bool, shape: tuple[int, ...] = (6, 8, 20), **options: Any):
    """Numbers that are neither zero nor close to it."""
    generator = torch.Generator().manual_seed(shape[0])
    sizes = 0.5 + torch.rand(shape, generator=generator, **options)
    signs = torch.rand(shape, generator=generator).sub(0.5).sign()
    return (sizes * signs).requires_grad_(), p, training


NO_RESCALE = (
    "what is left keeps its size. Then sums come out smaller in training than in eval, by p on "
    "average. By what must the rest grow so that the mean stays?"
)
BATCH = (
    "all texts of the batch lost the same numbers. Draw a number for every number of x, not for "
    "every number of one text."
)
EVAL_TOO = "numbers were set to zero in eval mode as well. What should happen there?"
BY_P = (
    "the rest was scaled with p. With p = 0.1 nine of ten numbers are left: they have to make up "
    "for one in ten. Which share is left?"
)
KEEPS = (
    "a share of p was kept, and the rest lost. p is how many are lost. (Some older papers and "
    "libraries give the share that is kept; PyTorch and GPT-2's configuration do not.)"
)

dropout = ByChance(
    reference=answers.reference,
    reading=reading,
    in_words=in_words,
    named=named,
    probes=(
        _probe(0.4, True),
        _probe(0.4, False),
        _probe(0.1, True, (5, 8, 24)),
        _probe(0.6, True, (7, 9, 16)),
        _probe(0.6, False, (7, 9, 16), dtype=torch.float64),
        _probe(0.0, True, (3, 1, 2)),
        _probe(1.0, True, (2, 3, 4)),
        _probe(1.0, False, (1, 1, 1)),
    ),
    mistakes=(
        Mistake(
            "nothing is lost",
            "in training mode nothing was set to zero. What should `training` decide?",
            lambda x, p, training: x,
        ),
        Mistake("not rescaled", NO_RESCALE, answers.of(scale=lambda p: 1.0)),
        Mistake(
            "rescaled in eval, not in training",
            "the mean is the same in both modes, but the scaling is done in eval. That is how "
            "dropout was first published; here eval should give x as it is. Which scaling in "
            "training does the same?",
            answers.of(scale=lambda p: 1.0, in_eval=lambda x, p: x * (1 - p)),
        ),
        Mistake(
            "rescaled in training and in eval",
            "each of the two scalings alone would keep the mean. With both of them, eval comes out "
            "too small.",
            answers.of(in_eval=lambda x, p: x * (1 - p)),
        ),
        Mistake(
            "rescaled in eval",
            "training is right. In eval nothing is lost, so nothing has to be made up for.",
            answers.of(in_eval=lambda x, p: x / (1 - p) if p < 1 else x),
        ),
        Mistake("rescaled by p", BY_P, answers.of(scale=answers.by_p)),
        Mistake("rescaled by p", BY_P, answers.of(scale=lambda p: p)),
        Mistake("rescaled by p", BY_P, answers.of(scale=lambda p: 1 + p)),
        Mistake(
            "made smaller",
            "the right numbers were set to zero, and the rest was made smaller, too. It has to "
            "make up for what is lost.",
            answers.of(scale=lambda p: 1 - p),
        ),
        Mistake("p is what it kept", KEEPS, answers.of(keep=lambda p: p, scale=answers.by_p)),
        Mistake("p is what it kept", KEEPS, answers.of(keep=lambda p: p)),
        Mistake("p is what it kept", KEEPS, answers.of(keep=lambda p: p, scale=lambda p: 1.0)),
        Mistake("drops in eval", EVAL_TOO, answers.of(in_eval=answers.reference)),
        Mistake(
            "drops in eval, and does not rescale",
            EVAL_TOO + " And what is left keeps its size in training.",
            answers.of(scale=lambda p: 1.0, in_eval=lambda x, p: x * answers.drawn(x.shape, 1 - p)),
        ),
        Mistake(
            "the two modes exchanged",
            "it drops in eval and leaves x as it is in training.",
            lambda x, p, training: answers.reference(x, p, not training),
        ),
        Mistake("one pattern for the batch", BATCH, answers.of(shape=lambda x: x.shape[1:])),
        Mistake("one pattern for the batch", BATCH, answers.of(shape=lambda x: x[:1].shape)),
        Mistake(
            "one pattern for all positions",
            "every position of a text lost the same channels. Draw a number for every number of x.",
            answers.of(shape=lambda x: x[:, :1].shape),
        ),
        Mistake(
            "one pattern for every position",
            "every position of every text lost the same channels. Draw a number for every number "
            "of x, not for every channel.",
            answers.of(shape=lambda x: x.shape[2:]),
        ),
        Mistake(
            "whole positions dropped",
            "all channels of a position were lost together, or none. Draw a number for every "
            "number of x, not for every position.",
            answers.of(shape=lambda x: x[..., :1].shape),
        ),
        Mistake(
            "whole texts dropped",
            "a text of the batch was lost as a whole, or left as it is. Draw a number for every "
            "number of x.",
            answers.of(shape=lambda x: x[:, :1, :1].shape),
        ),
        Mistake(
            "all or nothing",
            "one random number decided for all of x. Draw one for each.",
            answers.of(shape=lambda x: ()),
        ),
        Mistake(
            "the same numbers in every call",
            "every call lost the same numbers, so these would never be trained. Is a seed set on "
            "the way, or is the choice made from x itself?",
            answers.seeded,
        ),
        Mistake(
            "always the same number of zeros",
            "each call lost exactly as many. With dropout each number has a chance of its own: "
            "how many are lost differs from call to call.",
            answers.exact_count,
        ),
        Mistake(
            "rescaled by what was kept this time",
            "the factor changes from call to call with the number of zeros. It should depend on p "
            "alone: only on average is a share of p lost.",
            answers.by_what_was_kept,
        ),
        Mistake(
            "normal numbers compared with p",
            "torch.randn gives numbers around 0, negative ones too. How many of them are below p? "
            "Which function gives numbers from 0 to 1?",
            answers.normal_numbers,
        ),
        Mistake(
            "p does not count",
            "half of the numbers were lost, whatever p was.",
            answers.of(keep=lambda p: 0.5),
        ),
        Mistake(
            "zero divided by zero",
            "right, but for p = 1: nothing is left, and the scale is infinite. It should give "
            "zeros.",
            answers.zero_by_zero,
        ),
        Mistake(
            "random numbers drawn in eval",
            "in eval mode numbers were drawn for a pattern that was then not used, so a look in "
            "eval mode would change the training that goes on after it.",
            answers.draws_in_eval,
        ),
        Mistake(
            "written into the argument",
            "x is needed as it was, for the gradient and by the caller. Make a new tensor.",
            answers.in_place,
        ),
    ),
    forbidden={
        name: "the values are right, and they are PyTorch's own. Write it yourself: it takes a "
        "random number for each number of x, a comparison, and a scale"
        for name in ("dropout", "dropout_", "native_dropout", "alpha_dropout", "feature_dropout")
    },
)
