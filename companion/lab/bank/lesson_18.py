"""Lesson 18: the learning rate of a step, up in a line and down in half a cosine."""

from collections.abc import Callable
from math import cos, pi
from typing import Any

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[int, int, int, float, float], float]  # of step, steps, warmup, lr, min_lr
Share = Callable[[float], float]


def half_cosine(done: float) -> float:
    """1 at 0, 0 at 1."""
    return (1 + cos(pi * done)) / 2


def scheduled(
    *,
    up: Callable[[int, int, float, float], float] = lambda step, warmup, lr, low: (
        lr * (step + 1) / warmup
    ),
    last_up: int = -1,
    done: Callable[[int, int, int], float] = lambda step, steps, warmup: (
        (step - warmup) / (steps - warmup)
    ),
    share: Share = half_cosine,
    down: Callable[[float, float, float], float] = lambda share, lr, low: low + (lr - low) * share,
    after: Callable[[float, float], float] | None = lambda lr, low: low,
) -> Answer:
    """A schedule of three stretches, any part of which may be another.

    The warm-up's last step is `warmup + last_up`; without `after` the cosine just goes on.
    """

    def answer(step: int, steps: int, warmup: int, lr: float, min_lr: float) -> float:
        if step <= warmup + last_up:
            return up(step, warmup, lr, min_lr)
        if after and step >= steps:
            return after(lr, min_lr)
        return down(share(done(step, steps, warmup)), lr, min_lr)

    return answer


reference = scheduled()


def look(answer: Answer, *probe: float) -> Any:
    """The rate. That a warm-up of 0 steps was divided by is said last, not first."""
    try:
        return answer(*probe)
    except ZeroDivisionError:
        if probe[2]:
            raise
        return "a warm-up of 0 was divided by"


def no_end(**parts: Callable) -> Answer:
    return scheduled(after=None, **parts)


def from_zero(step: int, warmup: int, lr: float, low: float) -> float:
    return lr * step / warmup


def from_zero_kept(step: int, warmup: int, lr: float, low: float) -> float:
    """Without a division by 0."""
    return lr * step / max(1, warmup)


def to_lr_kept(step: int, warmup: int, lr: float, low: float) -> float:
    """Without a division by 0."""
    return lr * (step + 1) / max(1, warmup)


def shortened(first: int) -> Answer:
    """The schedule times a share, `first / warmup` in step 0, divided even where warmup is 0."""
    return lambda step, steps, warmup, lr, low: (
        min(1.0, (step + first) / warmup) * reference(max(step, warmup), steps, warmup, lr, low)
    )


def without_warmup(goes_on: bool = True) -> Answer:
    """The cosine over the whole run."""

    def answer(step: int, steps: int, warmup: int, lr: float, low: float) -> float:
        done = step / steps if goes_on else min(1.0, step / steps)
        return low + (lr - low) * half_cosine(done)

    return answer


def smoothstep(done: float) -> float:
    """A cubic with flat ends, never far from the half cosine."""
    return 1 - done * done * (3 - 2 * done)


def ends_late(late: int) -> Answer:
    """The cosine goes on for so many steps past the end."""
    return lambda step, steps, warmup, lr, low: (
        low if step > steps + late else no_end()(step, steps, warmup, lr, low)
    )


def forgets(step: int, steps: int, warmup: int, lr: float, low: float) -> float:
    """Right, and 0 a run's length after the end."""
    return 0.0 if step >= 2 * steps else reference(step, steps, warmup, lr, low)


def floored(share: float, lr: float, low: float) -> float:
    return max(low, lr * share)


def of_lr(answer: Answer) -> Answer:
    return lambda step, steps, warmup, lr, low: answer(step, steps, warmup, lr, low) / lr


def both_at_once(step: int, steps: int, warmup: int, lr: float, min_lr: float) -> float:
    whole = min_lr + (lr - min_lr) * half_cosine(min(1.0, step / steps))
    return whole * min(1.0, (step + 1) / warmup if warmup else 1.0)


WASTED = (
    "step 0 has a rate of 0, so nothing is learned in it, and the last step of the warm-up is not "
    "yet at lr. Steps count from 0: how many have been taken when step 0 is over?"
)
WHOLE_RUN = (
    "after the warm-up the rate begins below lr. The cosine's way was counted from the beginning "
    "of the run: it begins where the warm-up ends, and is that much shorter."
)
RISES = (
    "up to the end it is right. After the last step the cosine goes on, and so the rate rises "
    "again. What should a step past the end get?"
)
ROUNDED = (
    "it is rounded, and at a rate such as 6e-4 little is left then. Nothing has to be rounded."
)
NO_WARMUP = (
    "there is no warm-up: step 0 has lr, and the cosine's way takes the whole run. First the rate "
    "should rise, and the cosine begin where it has risen."
)
NO_WARMUP_STEPS = (
    "a warm-up of 0 steps was divided by. There is then no step that belongs to it, and step 0 has "
    "to have lr."
)

PROBES = (
    (0, 12, 4, 3.0, 0.3),
    (1, 12, 4, 3.0, 0.3),
    (3, 12, 4, 3.0, 0.3),  # the last of the warm-up
    (4, 12, 4, 3.0, 0.3),
    (6, 12, 4, 3.0, 0.3),
    (8, 12, 4, 3.0, 0.3),  # half down
    (11, 12, 4, 3.0, 0.3),  # the last
    (7, 10, 3, 2.0, 0.0),
    (12, 12, 4, 3.0, 0.3),
    (13, 12, 4, 3.0, 0.3),  # just past the end, past it, and far
    (17, 12, 4, 3.0, 0.3),
    (40, 12, 4, 3.0, 0.3),
    (5_000, 12, 4, 3.0, 0.3),
    (19_074, 19_073, 715, 6.0, 0.6),
    (1_000_000, 19_073, 715, 6.0, 0.6),
    (715, 19_073, 715, 6.0, 0.6),
    (9_000, 19_073, 715, 6.0, 0.6),
    (0, 19_073, 715, 6e-4, 6e-5),  # at a rate that is used
    (9_000, 19_073, 715, 6e-4, 6e-5),
    (5, 8, 0, 2.0, 0.5),
    (0, 8, 0, 2.0, 0.5),  # no warm-up
)

learning_rate = Exercise(
    reference=reference,
    probes=PROBES,
    tolerance=1e-6,
    look=look,
    mistakes=(
        Mistake("the first step is wasted", WASTED, scheduled(up=from_zero)),
        Mistake("the first step is wasted", WASTED, scheduled(up=from_zero, last_up=0)),
        Mistake("the first step is wasted", WASTED, scheduled(up=from_zero_kept, last_up=0)),
        Mistake("the first step is wasted", WASTED, shortened(0)),
        Mistake(
            "the first step is wasted, and no end", WASTED + " And: " + RISES, no_end(up=from_zero)
        ),
        Mistake(
            "a step too many in the warm-up",
            "the last step of the warm-up is a little below lr. How many steps are there from step "
            "0 to that one, both counted?",
            scheduled(up=lambda step, warmup, lr, low: lr * (step + 1) / (warmup + 1)),
        ),
        Mistake(
            "over the top",
            "the first step after the warm-up has more than lr. Which step is the first of the "
            "cosine's?",
            scheduled(last_up=0),
        ),
        Mistake(
            "over the top",
            "the first step after the warm-up has more than lr: the comparison lets one step too "
            "many into the warm-up. Which step is its last?",
            scheduled(up=to_lr_kept, last_up=0),
        ),
        Mistake(
            "the warm-up begins at min_lr",
            "the first step has too much: the rise was begun at min_lr, which is for the way down "
            "only. Read again what the warm-up rises from.",
            scheduled(up=lambda step, warmup, lr, low: low + (lr - low) * (step + 1) / warmup),
        ),
        Mistake(
            "no warm-up",
            "in the first steps the rate is lr already. It should get there by equal rises.",
            scheduled(up=lambda step, warmup, lr, low: lr),
        ),
        Mistake(
            "always lr",
            "it is lr in every step. The rate should rise, fall and then stay: three stretches.",
            lambda step, steps, warmup, lr, low: lr,
        ),
        Mistake(
            "always min_lr",
            "it is min_lr in every step. The rate should rise and fall, and only then stay there.",
            lambda step, steps, warmup, lr, low: low,
        ),
        Mistake(
            "no way down",
            "the warm-up is right, and then the rate stays at lr for ever. What does it do from "
            "step `warmup` on, and after the end?",
            scheduled(up=to_lr_kept, down=lambda share, lr, low: lr, after=lambda lr, low: lr),
        ),
        Mistake("no warm-up at all", NO_WARMUP, without_warmup(goes_on=False)),
        Mistake("no warm-up at all, and no end", NO_WARMUP + " And: " + RISES, without_warmup()),
        Mistake(
            "min_lr in the warm-up",
            "all of the warm-up has min_lr. It should rise to lr by equal steps.",
            scheduled(up=lambda step, warmup, lr, low: low),
        ),
        Mistake(
            "the warm-up counted in the cosine",
            WHOLE_RUN,
            scheduled(done=lambda step, steps, warmup: step / steps),
        ),
        Mistake("two schedules, multiplied", WHOLE_RUN, both_at_once),
        Mistake(
            "a cosine as long as the run",
            "the cosine begins where it should, and has not come down when the run ends. It was "
            "stretched over all steps. How many are left after the warm-up?",
            scheduled(done=lambda step, steps, warmup: (step - warmup) / steps),
        ),
        Mistake(
            "at the bottom one step early",
            "the last step is at min_lr already, and the whole way down is a little too steep. "
            "min_lr is to be reached by the step after the last.",
            scheduled(
                done=lambda step, steps, warmup: (
                    (step - warmup) / (steps - warmup - 1) if steps - warmup > 1 else 1.0
                )
            ),
        ),
        Mistake(
            "begun one step late",
            "the first step after the warm-up has already gone down a little. It should have lr.",
            scheduled(
                done=lambda step, steps, warmup: (step - warmup + 1) / (steps - warmup),
            ),
        ),
        Mistake(
            "a whole cosine",
            "it comes down in half the time and climbs back to lr. Which part of a cosine's circle "
            "goes down only?",
            scheduled(share=lambda done: half_cosine(2 * done)),
        ),
        Mistake(
            "a quarter of a cosine",
            "it ends where it should, but it is too high on the way, and steepest at the end. A "
            "quarter of the circle was used: half of it goes from 1 to -1.",
            scheduled(share=lambda done: cos(pi * done / 2)),
        ),
        Mistake(
            "degrees",
            "after the warm-up the rate jumps about. Half a circle was measured in degrees, and "
            "the cosine of Python, NumPy and torch takes radians.",
            scheduled(share=lambda done: (1 + cos(180 * done)) / 2),
        ),
        Mistake(
            "half a circle is missing",
            "the rate falls to about three quarters only, and then drops. The cosine was given a "
            "number from 0 to 1. In radians, how far is half a circle?",
            scheduled(share=lambda done: (1 + cos(done)) / 2),
        ),
        Mistake(
            "upside down",
            "after the warm-up the rate starts at min_lr and rises. Which of its two ends does the "
            "cosine begin with?",
            scheduled(share=lambda done: 1 - half_cosine(done)),
        ),
        Mistake(
            "a straight line down",
            "both ends are right, and the way between them is a line. Where is the cosine?",
            scheduled(share=lambda done: 1 - done),
        ),
        Mistake(
            "another curve",
            "the ends and the middle of the way down are right, and what is between is a little "
            "off: the curve is smooth, but no cosine.",
            scheduled(share=smoothstep),
        ),
        Mistake(
            "not halved",
            "it comes down from twice as high. A cosine goes from 1 to -1: what range does 1 + cos "
            "have?",
            scheduled(share=lambda done: 1 + cos(pi * done)),
        ),
        Mistake(
            "a bare cosine",
            "in the second half the rate is too low, below min_lr or even below 0. A cosine goes "
            "from 1 to -1, and what is wanted from 1 to 0.",
            scheduled(share=lambda done: cos(pi * done)),
        ),
        Mistake(
            "caught at min_lr",
            "the rate was let fall towards 0, and caught at min_lr. So it is too low on the way, "
            "and gets there early. The half cosine itself should end at min_lr: how high is it?",
            scheduled(down=floored),
        ),
        Mistake(
            "down to 0",
            "it falls towards 0, and min_lr plays no part until the end is past. The half cosine "
            "should go from lr to min_lr: how high is it?",
            scheduled(down=lambda share, lr, low: lr * share),
        ),
        Mistake(
            "down to 0, and it stays there",
            "min_lr plays no part. The half cosine should go from lr to min_lr, and the rate stay "
            "there: how high is the half cosine?",
            scheduled(down=lambda share, lr, low: lr * share, after=lambda lr, low: 0.0),
        ),
        Mistake(
            "min_lr added on top",
            "after the warm-up the rate begins above lr, by min_lr. If min_lr is underneath, how "
            "much is left for the cosine to go through?",
            scheduled(down=lambda share, lr, low: low + lr * share),
        ),
        Mistake(
            "whole numbers",
            "the rate stays at lr until the run is over. If a share from 0 to 1 was to bring it "
            "down, it was rounded down to 0. Which division does that?",
            scheduled(done=lambda step, steps, warmup: (step - warmup) // (steps - warmup)),
        ),
        Mistake("up again after the end", RISES, no_end()),
        *(
            Mistake(
                "up again, for a moment",
                "right up to the end, and far past it. In between the cosine goes on and the rate "
                "rises again. Which step is the first that has to be at min_lr?",
                ends_late(late),
            )
            for late in (1, 2)
        ),
        Mistake(
            "0 long after the end",
            "some way past its end the run would learn nothing more. It should stay at min_lr.",
            forgets,
        ),
        Mistake(
            "0 after the end",
            "a run that goes on past its end would learn nothing more. It should stay at min_lr.",
            scheduled(after=lambda lr, low: 0.0),
        ),
        Mistake(
            "lr after the end",
            "past the end the rate is back at lr. It should stay at min_lr.",
            scheduled(after=lambda lr, low: lr),
        ),
        Mistake(
            "a factor for a rate",
            "these are shares of lr, such as LambdaLR wants. Here the rate itself is asked for.",
            of_lr(reference),
        ),
        Mistake(
            "a warm-up of no steps",
            NO_WARMUP_STEPS,
            shortened(1),
        ),
        *(
            Mistake(
                "rounded", ROUNDED, lambda *probe, places=places: round(reference(*probe), places)
            )
            for places in (3, 4, 5)
        ),
    ),
)
