"""Lesson 23: a judge of one side of a pair that sees the order of its words."""

from collections.abc import Callable

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Probe = tuple[Tensor, Tensor, Tensor, int]


def _probe(N: int, M: int, T: int, V: int, strangers: int) -> Probe:
    """`strangers` of the N known texts are strangers; their order is no other's."""
    generator = torch.Generator().manual_seed(N * M * T * V)
    labels = (torch.arange(N) < strangers).long()[torch.randperm(N, generator=generator)]
    step = torch.where(labels == 1, 1, V - 2)[:, None]  # most twos go one way for strangers
    known = torch.randint(V, (N, 1), generator=generator) + step * torch.arange(T)
    noise = torch.randint(V, (N, T), generator=generator)
    known = torch.where(torch.rand(N, T, generator=generator) < 0.3, noise, known) % V
    return known, labels, torch.randint(V, (M, T), generator=generator), V


# --- right, and wrong in known ways ---------------------------------------------------------------


def twos(ids: Tensor, V: int) -> Tensor:
    return ids[:, :-1] * V + ids[:, 1:]


def singles(ids: Tensor, V: int) -> Tensor:
    return ids


def without_order(ids: Tensor, V: int) -> Tensor:
    return torch.minimum(ids[:, :-1], ids[:, 1:]) * V + torch.maximum(ids[:, :-1], ids[:, 1:])


def one_number_for_many(ids: Tensor, V: int) -> Tensor:
    return ids[:, :-1] + ids[:, 1:]


def around(ids: Tensor, V: int) -> Tensor:
    return ids * V + ids.roll(-1, 1)


def without_overlap(ids: Tensor, V: int) -> Tensor:
    return ids[:, :-1:2] * V + ids[:, 1::2]


def across_texts(ids: Tensor, V: int) -> Tensor:
    return (ids.flatten()[:-1] * V + ids.flatten()[1:])[None]


def counted(
    known: Tensor,
    labels: Tensor,
    V: int,
    by: Callable[[Tensor, int], Tensor] = twos,
    start: float = 1.0,
    kinds: int = 0,
) -> Tensor:
    counts = [
        start + by(known[labels == label], V).flatten().bincount(minlength=kinds or V * V)
        for label in (0, 1)
    ]
    return torch.stack(counts).float()


def strangeness(counts: Tensor) -> Tensor:
    return (counts / counts.sum(1, keepdim=True)).log().diff(dim=0)[0]


def answer(
    of: Callable[[Tensor], Tensor] = strangeness,
    by: Callable[[Tensor, int], Tensor] = twos,
    known_by: Callable[[Tensor, int], Tensor] | None = None,
    start: float = 1.0,
    kinds: Callable[[int], int] = lambda V: V * V,
    end: Callable[[Tensor], Tensor] = lambda odds: odds.sum(1),
) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    def judged(known: Tensor, labels: Tensor, asked: Tensor, V: int) -> Tensor:
        counts = counted(known, labels, V, known_by or by, start, kinds(V))
        return end(of(counts)[by(asked, V)])

    return judged


def totals_without_ones(counts: Tensor) -> Tensor:
    return (counts / (counts - 1).sum(1, keepdim=True)).log().diff(dim=0)[0]


def by_first(counts: Tensor) -> Tensor:
    V = round(counts.shape[1] ** 0.5)
    by_row = counts.view(2, V, V)
    return (by_row / by_row.sum(2, keepdim=True)).log().diff(dim=0)[0].flatten()


def with_prior(known: Tensor, labels: Tensor, asked: Tensor, V: int) -> Tensor:
    strangers = (labels == 1).sum()
    return reference(known, labels, asked, V) + (strangers / (len(labels) - strangers)).log()


def once_a_text(known: Tensor, labels: Tensor, asked: Tensor, V: int) -> Tensor:
    counts = torch.ones(2, V * V)
    for text, label in zip(twos(known, V), labels):
        counts[int(label), text.unique()] += 1
    return strangeness(counts)[twos(asked, V)].sum(1)


def of_the_asked(known: Tensor, labels: Tensor, asked: Tensor, V: int) -> Tensor:
    return strangeness(counted(known, labels, V))[twos(known, V)].sum(1)


reference = answer()
BOTH_WAYS = (
    "a and b were counted under the same number as b and a. Then a text and the same one reversed "
    "are judged alike, and order is what was to be seen."
)
TOTALS = (
    "the two labels' counts were compared as they are. Where more of the known texts have one "
    "label, every two that it has looks like that label's. What share of its label's is a count?"
)

odds_in_order = Exercise(
    reference=reference,
    probes=(
        _probe(9, 4, 5, 4, strangers=3),
        _probe(8, 3, 6, 5, strangers=5),
        _probe(7, 1, 2, 3, strangers=4),  # one two a text
        _probe(20, 6, 8, 3, strangers=8),
    ),
    axes="(M,)",
    mistakes=(
        Mistake(
            "single tokens counted",
            "this is `odds`: each token alone. A text and its words reversed get the same number.",
            answer(by=singles, kinds=lambda V: V),
        ),
        Mistake("both ways are one", BOTH_WAYS, answer(by=without_order)),
        Mistake(
            "one number for several twos",
            "the number that stands for two tokens stands for others as well: 1 and 2 have the sum "
            "of 2 and 1, and of 0 and 3. Each two in order needs its own.",
            answer(by=one_number_for_many),
        ),
        Mistake(
            "the last with the first",
            "the last token of a text was counted with the first one, which does not follow it. A "
            "text of T tokens has T - 1 twos.",
            answer(by=around),
        ),
        Mistake(
            "every other two left out",
            "the text was cut into separate twos. Each token but the last has one behind it, so "
            "the twos overlap.",
            answer(by=without_overlap),
        ),
        Mistake(
            "over the end of a text",
            "the texts were put in a row first, so the end of one was counted with the start of "
            "another. Pair the tokens while the texts are still apart.",
            answer(known_by=across_texts),
        ),
        Mistake(
            "the other way round",
            "the signs are turned: it is below 0 for strangers, which have the label 1.",
            answer(end=lambda odds: -odds.sum(1)),
        ),
        Mistake(
            "counts that start at 0",
            "a two that one label never had gets a chance of 0, whose logarithm is infinite: one "
            "such two would decide alone. The docstring says where counts start.",
            answer(start=0.0),
        ),
        Mistake(
            "totals left out",
            TOTALS,
            answer(of=lambda counts: counts.log().diff(dim=0)[0]),
        ),
        Mistake(
            "ones left out of the totals",
            "the counts start at 1, and were divided by a total without these ones: the chances of "
            "a label add up to more than 1.",
            answer(of=totals_without_ones),
        ),
        Mistake(
            "chances after the first token",
            "each count was divided by those of the same first token, so the first tokens no "
            "longer count. Divide by all that the label has.",
            answer(of=by_first),
        ),
        Mistake(
            "the mean",
            "the twos' numbers were averaged, not added. Each two is one more piece of evidence, "
            "and naive Bayes adds their logarithms.",
            answer(end=lambda odds: odds.mean(1)),
        ),
        Mistake(
            "chances, not logarithms",
            "ratios of chances were added up. They multiply; what adds up is their logarithms.",
            answer(of=lambda counts: strangeness(counts).exp()),
        ),
        Mistake(
            "one number for all texts",
            "all texts that are asked about went into one number. Each has its own.",
            answer(end=lambda odds: odds.sum()),
        ),
        Mistake(
            "not added up",
            "this has a number for each two of a text. A text wants one.",
            answer(end=lambda odds: odds),
        ),
        Mistake(
            "decided, not weighed",
            "this says which are strangers and not by how much. `hits` asks for what is above 0, "
            "and a judge's sureness would be lost.",
            answer(end=lambda odds: odds.sum(1) > 0),
        ),
        Mistake(
            "with the labels' own shares",
            "how common strangers are among the known texts came in as well. The judge is to go by "
            "the twos only, as `odds` does by words.",
            with_prior,
        ),
        Mistake(
            "each two once a text",
            "a two that stands in a text several times was counted once. Count each time.",
            once_a_text,
        ),
        Mistake(
            "repeats lost",
            "a two that a label has several times was counted once. `+=` at a list of places adds "
            "to each place once, however often it stands in the list.",
            answer(of=lambda counts: strangeness(counts.clamp(max=2))),
        ),
        Mistake(
            "the known texts judged",
            "these are the odds of the known texts. Known are those that are counted; asked about "
            "are the others.",
            of_the_asked,
        ),
    ),
)
