"""Lesson 15: early stopping, from a run's estimates: which weights to keep, and when to end it."""

from collections.abc import Callable
from itertools import pairwise
from math import inf, isnan

from companion.lab.exercise import Exercise, Mistake

Evaluated = list[tuple[int, float, float]]
NAN = float("nan")


def stopping(
    *,
    better: Callable[[float, float], bool] = lambda value, best: value < best,
    value: Callable[[float, float], float] = lambda train, val: val,
    enough: Callable[[int, int], bool] = lambda misses, patience: misses >= patience,
    reset: bool = True,
    returned: Callable[[int, int], object] = lambda kept, stopped: (kept, stopped),
    first: float = inf,
) -> Callable[[Evaluated, int], object]:
    """The rule, or one with a part of it exchanged."""

    def answer(evaluated: Evaluated, patience: int) -> object:
        best, kept, misses = first, evaluated[0][0], 0
        for step, train, val in evaluated:
            seen = value(train, val)
            if better(seen, best):
                best, kept = seen, step
                misses = 0 if reset else misses
            else:
                misses += 1
            if enough(misses, patience):
                break
        return returned(kept, step)

    return answer


reference = stopping()


def from_the_first(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """The first estimate is the lowest to begin with, even where it is no number."""
    (kept, _, best), misses = evaluated[0], 0
    for step, _, val in evaluated[1:]:
        if val < best:
            best, kept, misses = val, step, 0
        else:
            misses += 1
        if misses >= patience:
            return kept, step
    return kept, evaluated[-1][0]


def begun_with_the_first(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """As `from_the_first`, and the first estimate, which is not lower than itself, is a miss."""
    return stopping(first=evaluated[0][2])(evaluated, patience)


def strict_rises(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    best, kept, rises, before = inf, evaluated[0][0], 0, inf
    for step, _, val in evaluated:
        if val < best:
            best, kept = val, step
        rises = rises + 1 if val > before else 0
        before = val
        if rises >= patience:
            break
    return kept, step


def counts_the_lowest(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """The count begins again at a new lowest, and that estimate is counted at once."""
    best, kept, count = inf, evaluated[0][0], 0
    for step, _, val in evaluated:
        if val < best:
            best, kept, count = val, step, 0
        count += 1
        if count >= patience:
            break
    return kept, step


def lowest_of_all(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    numbers = [row for row in evaluated if not isnan(row[2])]
    return min(numbers, key=lambda row: row[2])[0], evaluated[-1][0]


def plain_min(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """As `lowest_of_all`, and NaN is left in: it stays the lowest where it comes first."""
    return min(evaluated, key=lambda row: row[2])[0], evaluated[-1][0]


def plain_min_in_time(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    return plain_min(evaluated, patience)[0], reference(evaluated, patience)[1]


def smallest_gap_of_all(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    numbers = [row for row in evaluated if not isnan(row[2])]
    return min(numbers, key=lambda row: row[2] - row[1])[0], evaluated[-1][0]


def plain_smallest_gap(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    return min(evaluated, key=lambda row: row[2] - row[1])[0], evaluated[-1][0]


def lowest_of_all_in_time(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    return lowest_of_all(evaluated, patience)[0], reference(evaluated, patience)[1]


def rises_in_a_row(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    best, kept, rises, before = inf, evaluated[0][0], 0, inf
    for step, _, val in evaluated:
        if val < best:
            best, kept = val, step
        rises = 0 if val < before else rises + 1
        before = val
        if rises >= patience:
            break
    return kept, step


def lower_than_before(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """Each estimate that is lower than the one before is kept, and the count begins again."""
    before, kept, rises = inf, evaluated[0][0], 0
    for step, _, val in evaluated:
        if val < before:
            kept, rises = step, 0
        else:
            rises += 1
        before = val
        if rises >= patience:
            break
    return kept, step


def resets_on_equal(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    best, kept, misses = inf, evaluated[0][0], 0
    for step, _, val in evaluated:
        if val < best:
            best, kept, misses = val, step, 0
        elif val == best:
            misses = 0
        else:
            misses += 1
        if misses >= patience:
            break
    return kept, step


def passes_over_nan(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    return reference([row for row in evaluated if not isnan(row[2])], patience)


def stops_at_nan(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    for n, row in enumerate(evaluated):
        if isnan(row[2]):
            return reference(evaluated[: n + 1], patience)
    return reference(evaluated, patience)


def in_steps(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    best, kept = inf, evaluated[0][0]
    for step, _, val in evaluated:
        if val < best:
            best, kept = val, step
        elif step - kept >= patience:
            break
    return kept, step


def in_first_gaps(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """Patience in steps, made from the distance of the first two estimates."""
    steps = [step for step, _, _ in evaluated]
    return in_steps(evaluated, patience * (steps[1] - steps[0] if len(steps) > 1 else 1))


def as_places(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    steps = [step for step, _, _ in evaluated]
    kept, stopped = reference(evaluated, patience)
    return steps.index(kept), steps.index(stopped)


def as_loss(evaluated: Evaluated, patience: int) -> tuple[float, int]:
    kept, stopped = reference(evaluated, patience)
    return next(val for step, _, val in evaluated if step == kept), stopped


def stopped_late(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    steps = [step for step, _, _ in evaluated]
    kept, stopped = reference(evaluated, patience)
    return kept, steps[min(steps.index(stopped) + 1, len(steps) - 1)]


def the_one_before(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """It looks before it counts the estimate: the stop is seen, and the step before returned."""
    steps = [step for step, _, _ in evaluated]
    kept, stopped = reference(evaluated, patience)
    at = steps.index(stopped)
    ended = evaluated[at:][1:] or _patience_ran_out(evaluated, patience)
    return kept, steps[at - 1] if ended and at else stopped


def _patience_ran_out(evaluated: Evaluated, patience: int) -> bool:
    return reference([*evaluated, (-1, 0.0, -inf)], patience)[1] != -1


def no_end(evaluated: Evaluated, patience: int) -> tuple[int, int | None]:
    kept, stopped = reference(evaluated, patience)
    return kept, stopped if _patience_ran_out(evaluated, patience) else None


def since_patience_ago(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    best, kept = inf, evaluated[0][0]
    for n, (step, _, val) in enumerate(evaluated):
        if val < best:
            best, kept = val, step
        if n >= patience and not val < evaluated[n - patience][2]:
            break
    return kept, step


def asks_the_training_loss(counts: Callable[..., bool]) -> Callable[[Evaluated, int], object]:
    """An estimate without a new lowest counts only where its training loss says so, too.

    `counts(train, val, before, train_at_lowest, gap_at_lowest)`.
    """

    def answer(evaluated: Evaluated, patience: int) -> tuple[int, int]:
        best, kept, misses, before = inf, evaluated[0][0], 0, inf
        at_lowest, gap = inf, inf
        for step, train, val in evaluated:
            if val < best:
                best, kept, misses, at_lowest, gap = val, step, 0, train, val - train
            elif counts(train, val, before, at_lowest, gap):
                misses += 1
            before = train
            if misses >= patience:
                break
        return kept, step

    return answer


def gap_growing(evaluated: Evaluated, patience: int) -> tuple[int, int]:
    """The lowest is kept, and the run ends when the gap has grown so many times in a row."""
    best, kept, grown, before = inf, evaluated[0][0], 0, inf
    for step, train, val in evaluated:
        if val < best:
            best, kept = val, step
        grown = grown + 1 if val - train > before else 0
        before = val - train
        if grown >= patience:
            break
    return kept, step


def misses_by_a_margin(
    counts: Callable[[float, float], bool],
) -> Callable[[Evaluated, int], object]:
    def answer(evaluated: Evaluated, patience: int) -> tuple[int, int]:
        best, kept, misses = inf, evaluated[0][0], 0
        for step, _, val in evaluated:
            if val < best:
                best, kept, misses = val, step, 0
            elif counts(val, best):
                misses += 1
            if misses >= patience:
                break
        return kept, step

    return answer


def kept_at_first(nothing: object) -> Callable[[Evaluated, int], object]:
    """The reference, with this to keep as long as there was no lowest at all."""

    def answer(evaluated: Evaluated, patience: int) -> tuple[object, int]:
        kept, stopped = reference(evaluated, patience)
        upto = [val for step, _, val in evaluated if step <= stopped]
        return (nothing if all(map(isnan, upto)) else kept), stopped

    return answer


def _run(vals: list[float], *, every: int = 100, start: int = 0) -> Evaluated:
    """Estimates with these held-out losses; the training loss falls all the way."""
    return [(start + n * every, round(3.0 * 0.8**n, 4), float(val)) for n, val in enumerate(vals)]


def _at(steps: list[int], vals: list[float]) -> Evaluated:
    """The same, at these steps."""
    return [(step, *row[1:]) for step, row in zip(steps, _run(vals), strict=True)]


def _both(trains: list[float], vals: list[float]) -> Evaluated:
    """Estimates with both losses given: the training loss need not fall."""
    return [(n * 100, *losses) for n, losses in enumerate(zip(trains, vals, strict=True))]


def _in_words(evaluated: Evaluated, patience: int) -> str:
    """An input in a line; the training losses, which decide nothing, only where one rises."""
    vals = " ".join(f"{val:g}" for _, _, val in evaluated)
    steps = " ".join(str(step) for step, _, _ in evaluated)
    trains = [train for _, train, _ in evaluated]
    if any(not after < before for before, after in pairwise(trains)):
        vals += ", training " + " ".join(f"{train:g}" for train in trains)
    return f"held out {vals}, at steps {steps}, patience {patience}"


PROBES = (
    (_run([4.6, 2.1, 1.8, 1.7, 1.9, 1.75, 2.0, 2.2, 2.4]), 3),
    (_run([4.6, 2.2, 2.3, 2.1, 2.2, 2.0, 2.1, 2.3, 1.9, 2.5]), 2),
    (_run([4.6, 2.5, 2.2, 2.4, 2.6, 2.7, 2.0, 1.8, 2.1]), 3),  # lower again, after the stop
    (_run([3.0, 2.0, 2.0, 1.5, 1.5, 1.5, 1.6, 1.7, 1.4], every=50), 3),
    (_run([3.0, 2.5, NAN, 2.4, 2.6, 2.7, 2.8, 2.9]), 3),
    (_run([NAN, 3.0, 2.5, 2.6, 2.4, 2.5, 2.6, 2.7]), 2),
    (_run([3.0, 2.0, NAN, NAN, 1.9, 1.8]), 2),
    (_run([3.0, 2.0, NAN, 2.5, 2.6, 2.7]), 3),
    (_run([4.0, 3.0, 2.5, 2.2, 2.1]), 2),  # it ends while it gets better
    (_run([4.0, 3.0, 3.1, 3.2, 3.3], every=1, start=7), 5),  # and before patience is at its end
    (_run([4.0, 3.0, 3.1, 3.05, 2.9, 2.8], every=10), 1),
    (_run([2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 1.0], every=20), 4),  # falling, and never a new lowest
    (_run([2.0], start=40), 2),
    (_run([4e6, 40.0, 12.0, 11.0, 10.5, 11.5, 12.5, 13.0]), 2),  # as losses of a bad start are
    (_run([2.0, 1.9999, 1.9998, 1.9997, 2.1, 2.2, 2.3], every=5), 2),  # a little lower is lower
    (_run([3.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8, 1.0]), 8),  # a long patience
    (_run([2e6, 2.1e6, 2.2e6, 2.3e6], start=30), 2),  # every one high
    (_run([NAN, NAN, 2.0, 3.0, 4.0], start=50), 2),  # over before there was a number
    (_at([20, 50, 400, 410, 420, 430], [3.0, 2.0, 2.1, 1.9, 2.2, 2.3]), 2),
    # A run that goes wrong: both losses rise, or the training loss stands still or wavers.
    (_both([3.0, 2.0, 1.8, 2.5, 2.9, 3.3, 1.2], [3.1, 2.2, 2.1, 2.3, 2.6, 3.0, 1.9]), 3),
    (_both([3.0, 2.0, 2.0, 2.1, 2.1, 1.5], [3.1, 2.2, 2.3, 2.35, 2.4, 2.1]), 3),
    (_both([3.0, 2.0, 1.9, 1.8, 1.9, 1.7, 1.8, 1.6], [3.1, 2.2, 2.3, 2.4, 2.3, 2.5, 2.6, 2.1]), 4),
)

COUNT = (
    "On paper: held-out losses of 3, 2, 2.2, 2.1, 1.9 and a patience of 2. Under each write how "
    "many estimates in a row have by then brought no new lowest. At which of them does it end?"
)
NUMBERS = (
    "the loss of an estimate was NaN, which is no number. It is not lower than anything, and "
    "nothing is lower than it. "
)
GAP = (
    "the smallest distance between the two losses was kept. It is smallest when nothing has been "
    "learned. What should be small?"
)
TRAINING = (
    "whether an estimate counts was made to depend on the training loss. A run that goes wrong has "
    "both losses rising, and must end too. Which of the two is asked for a new lowest?"
)
ASKED_GAP = (
    "an estimate without a new lowest was counted only where the gap had grown. A run that goes "
    "wrong may have both losses rising side by side, and must end too."
)
MARGIN = (
    "an estimate had to lie above the lowest by some margin before it counted. The exercise counts "
    "every one that brings no new lowest."
)
NOTHING_YET = (
    "where no estimate was a number, there is no lowest, and something has to be kept all the "
    "same. Which step does the exercise ask for then?"
)
EQUAL = (
    "an estimate that only equals the lowest was taken for progress. A new lowest is lower than "
    "all before it."
)

stop_at = Exercise(
    reference=reference,
    probes=PROBES,
    show=_in_words,
    mistakes=(
        Mistake(
            "the last weights",
            "the run ends where it should, but the weights of its end are kept. Those were on the "
            "way up already: which estimate was the best that it had seen?",
            stopping(returned=lambda kept, stopped: (stopped, stopped)),
        ),
        Mistake(
            "the end of the log",
            "the run never ends early, and its last weights are kept. That is the last line of the "
            "log, or what the training loss asks for, which falls all the way. Which of the two "
            "losses can turn?",
            stopping(value=lambda train, val: train),
        ),
        Mistake(
            "judged by the gap",
            GAP,
            stopping(value=lambda train, val: val - train),
        ),
        Mistake("judged by the gap", GAP, smallest_gap_of_all),
        Mistake("judged by the gap", GAP, plain_smallest_gap),
        Mistake(
            "ended by the gap",
            "the run was ended by a gap that grew. A gap grows in good runs too, as long as the "
            "training loss falls faster than the held-out one. Which loss should bring no new "
            "lowest?",
            gap_growing,
        ),
        Mistake(
            "judged by both losses",
            "the sum of the two losses was asked to be low. The training loss falls long after the "
            "other has turned, and hides it. Which of the two is about text that nobody read?",
            stopping(value=lambda train, val: train + val),
        ),
        *(
            Mistake("asked the training loss", TRAINING, asks_the_training_loss(counts))
            for counts in (
                lambda train, val, before, at_lowest, gap: train < at_lowest,
                lambda train, val, before, at_lowest, gap: train <= at_lowest,
                lambda train, val, before, at_lowest, gap: train < before,
                lambda train, val, before, at_lowest, gap: train <= before,
            )
        ),
        *(
            Mistake("asked the gap", ASKED_GAP, asks_the_training_loss(counts))
            for counts in (
                lambda train, val, before, at_lowest, gap: not val - train <= gap,
                lambda train, val, before, at_lowest, gap: val - train > gap,
            )
        ),
        *(
            Mistake("a little higher is not counted", MARGIN, misses_by_a_margin(counts))
            for counts in (
                lambda val, best: val > best + 0.05,
                lambda val, best: not val <= best + 0.05,
                lambda val, best: val > best + 0.1,
                lambda val, best: not val <= best + 0.1,
            )
        ),
        Mistake("nothing kept", NOTHING_YET, kept_at_first(None)),
        Mistake("nothing kept", NOTHING_YET, kept_at_first(0)),
        Mistake(
            "misses counted since the start",
            "the estimates without a new lowest were added up over the whole run. Patience is "
            "about those in a row: what does a new lowest do to the count?",
            stopping(reset=False),
        ),
        Mistake(
            "compared with the estimate before",
            "a loss that falls, but is still above the lowest, was taken for progress. With what "
            "should each estimate be compared?",
            rises_in_a_row,
        ),
        Mistake(
            "compared with the estimate before",
            "an estimate lower than the one before was kept, though a lower one had been seen. "
            "With what should each estimate be compared?",
            lower_than_before,
        ),
        Mistake(
            "compared with the estimate before",
            "rises from one estimate to the next were counted. A loss that falls again, but not "
            "below the lowest, is no progress: with what should each estimate be compared?",
            strict_rises,
        ),
        Mistake(
            "compared with the estimate that many before",
            "each estimate was compared with one other, and not with the lowest of all so far. A "
            "single bad one then decides when to end.",
            since_patience_ago,
        ),
        Mistake(
            "one estimate too late",
            "the run ends one estimate after it should. " + COUNT,
            stopping(enough=lambda misses, patience: misses > patience),
        ),
        Mistake(
            "one estimate too late",
            "the run ends one estimate after it should. " + COUNT,
            stopped_late,
        ),
        Mistake(
            "one estimate too early",
            "the run ends one estimate before it should. " + COUNT,
            stopping(enough=lambda misses, patience: misses and misses >= patience - 1),
        ),
        Mistake(
            "one estimate too early",
            "a new lowest was itself counted as an estimate without one. " + COUNT,
            counts_the_lowest,
        ),
        Mistake(
            "the estimate before the stop",
            "the second number is the estimate before the one that used up the patience. The run "
            "had to get there to know.",
            the_one_before,
        ),
        Mistake(
            "no patience",
            "the run ends at the first estimate that is no new lowest. One estimate may be high by "
            "chance; how many in a row should it take?",
            stopping(enough=lambda misses, patience: misses >= 1),
        ),
        Mistake(
            "patience counted in steps",
            "patience was compared with a number of training steps. It is a number of estimates, "
            "however many steps lie between two.",
            in_steps,
        ),
        Mistake(
            "patience counted in steps",
            "patience was turned into a number of training steps, counted from the step to keep. "
            "Estimates need not lie equally far apart, and some may come before any was kept.",
            in_first_gaps,
        ),
        Mistake("an equal is progress", EQUAL, stopping(better=lambda val, best: val <= best)),
        Mistake("an equal is progress", EQUAL, resets_on_equal),
        Mistake(
            "NaN kept as the lowest",
            NUMBERS + "So asking whether a loss is not higher lets it in.",
            stopping(better=lambda val, best: not val >= best),
        ),
        Mistake(
            "begun too low",
            "the lowest began with a number that a loss can lie above: then no estimate of a bad "
            "start is a new lowest. How high can a loss be?",
            stopping(first=10.0),
        ),
        Mistake(
            "a little lower is not enough",
            "an estimate was asked to be lower than the lowest by some margin. The exercise asks "
            "for lower, by however little.",
            stopping(better=lambda val, best: val < best - 1e-3),
        ),
        Mistake(
            "begun with a NaN",
            NUMBERS + "Where the first is one, and is taken for the lowest, it stays the lowest. "
            "What was the lowest before anything had been measured?",
            from_the_first,
        ),
        Mistake(
            "begun with the first estimate",
            "the first estimate was taken for the lowest before it was looked at, and so it brings "
            "no new lowest itself; and where it is NaN, nothing is lower. What was the lowest "
            "before anything had been measured?",
            begun_with_the_first,
        ),
        Mistake(
            "NaN passed over",
            NUMBERS + "It is an estimate all the same, and brings no new lowest: it counts.",
            passes_over_nan,
        ),
        Mistake(
            "ended by a NaN",
            NUMBERS + "One of them does not end the run: it is one estimate without a new lowest.",
            stops_at_nan,
        ),
        Mistake(
            "the lowest of the whole run",
            "the lowest of all estimates was kept, and the run went to its end. Early stopping is "
            "decided on the way, when what comes later is not known.",
            lowest_of_all,
        ),
        Mistake(
            "the lowest of the whole run",
            "`min` over all estimates was kept, and the run went to its end. Early stopping is "
            "decided on the way, when what comes later is not known. And `min` slips on a NaN: "
            "where that comes first, nothing is lower.",
            plain_min,
        ),
        Mistake(
            "the lowest, though it came after the stop",
            "the run ends where it should, and weights are kept that it would have had later. "
            "Which estimates have been made by then?",
            lowest_of_all_in_time,
        ),
        Mistake(
            "the lowest, though it came after the stop",
            "the run ends where it should, and `min` was taken over all estimates. Which of them "
            "have been made by then? And `min` slips on a NaN: where that comes first, nothing is "
            "lower.",
            plain_min_in_time,
        ),
        Mistake(
            "the highest",
            "a new highest was taken for progress. Is a high loss good?",
            stopping(better=lambda val, best: val > best, first=-inf),
        ),
        Mistake(
            "places instead of steps",
            "these are places in the list, counted from 0. Each estimate says which step it was "
            "made at.",
            as_places,
        ),
        Mistake(
            "a loss instead of a step",
            "the first number is the lowest loss. Weights are found again by the step that they "
            "were saved at.",
            as_loss,
        ),
        Mistake(
            "one number of two",
            "only the step to keep was returned. Two are asked for: that one, and the one at which "
            "the run ends.",
            stopping(returned=lambda kept, stopped: kept),
        ),
        Mistake(
            "the other way round",
            "the step to keep comes first, and the one at which the run ends comes second.",
            stopping(returned=lambda kept, stopped: (stopped, kept)),
        ),
        Mistake(
            "a run that is over before the patience is",
            "where the estimates end first, nothing was returned for the end of the run. It ends "
            "with its last estimate.",
            no_end,
        ),
    ),
)
