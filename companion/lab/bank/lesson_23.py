"""Lesson 23: the loss that BERT is pre-trained on, of masked words and of the next sentence."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Probe = tuple[Tensor, Tensor, Tensor, Tensor]
IGNORED = -100


def _probe(B: int, T: int, V: int, words: tuple[int, ...], spread: float = 2.0) -> Probe:
    """`words` says how many are asked for in each row."""
    generator = torch.Generator().manual_seed(B * T * V)
    mlm = spread * torch.randn(B, T, V, generator=generator)
    labels = torch.full((B, T), IGNORED)
    for row, n in zip(labels, words):
        row[torch.randperm(T - 2, generator=generator)[:n] + 1] = torch.randint(
            V, (n,), generator=generator
        )
    nsp = spread * torch.randn(B, 2, generator=generator)
    is_next = torch.arange(B) % 3 == 0
    return mlm.requires_grad_(), labels, nsp.requires_grad_(), is_next


# --- the two parts, right and wrong ---------------------------------------------------------------


def words(mlm: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(mlm.flatten(0, 1), labels.flatten())


def pairs(nsp: Tensor, is_next: Tensor) -> Tensor:
    return F.cross_entropy(nsp, (~is_next).long())


def reversed_pairs(nsp: Tensor, is_next: Tensor) -> Tensor:
    return F.cross_entropy(nsp, is_next.long())


def each_word(mlm: Tensor, labels: Tensor) -> Tensor:
    """A loss a place, (B, T), 0 where nothing is asked for."""
    return F.cross_entropy(mlm.mT, labels, reduction="none")


def over_all_places(mlm: Tensor, labels: Tensor) -> Tensor:
    return each_word(mlm, labels).mean()


def mean_of_rows(mlm: Tensor, labels: Tensor) -> Tensor:
    return (each_word(mlm, labels).sum(1) / (labels != IGNORED).sum(1)).mean()


def mean_of_rows_with_words(mlm: Tensor, labels: Tensor) -> Tensor:
    return (each_word(mlm, labels).sum(1) / (labels != IGNORED).sum(1)).nanmean()


def mean_of_rows_or_0(mlm: Tensor, labels: Tensor) -> Tensor:
    return (each_word(mlm, labels).sum(1) / (labels != IGNORED).sum(1).clamp(min=1)).mean()


def batch_transposed(mlm: Tensor, labels: Tensor) -> Tensor:
    return words(mlm.transpose(0, 1), labels)


def above_0(mlm: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(mlm[labels > 0], labels[labels > 0])


def mean_of_row_sums(mlm: Tensor, labels: Tensor) -> Tensor:
    return each_word(mlm, labels).sum(1).mean()


def summed_words(mlm: Tensor, labels: Tensor) -> Tensor:
    return each_word(mlm, labels).sum()


def clamped(mlm: Tensor, labels: Tensor) -> Tensor:
    return words(mlm, labels.clamp(min=0))


def shifted(mlm: Tensor, labels: Tensor) -> Tensor:
    return words(mlm[:, :-1], labels[:, 1:])


def softmax_first(mlm: Tensor, labels: Tensor) -> Tensor:
    return words(mlm.softmax(-1), labels)


def softmax_then_log(mlm: Tensor, labels: Tensor) -> Tensor:
    asked = labels != IGNORED
    return -mlm[asked].softmax(-1).gather(1, labels[asked][:, None]).log().mean()


def relabelled(mlm: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(mlm.reshape(len(mlm), mlm.shape[2], -1), labels)


def transposed_and_cut(mlm: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(mlm.mT.reshape(-1, mlm.shape[2]), labels.flatten())


def by_first_score(nsp: Tensor, is_next: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(nsp[:, 0], is_next.to(nsp))


def by_second_score(nsp: Tensor, is_next: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(nsp[:, 1], (~is_next).to(nsp))


def by_both_scores(nsp: Tensor, is_next: Tensor) -> Tensor:
    wanted = torch.stack([is_next, ~is_next], dim=1).to(nsp)
    return F.binary_cross_entropy_with_logits(nsp, wanted)


def softmaxed_pairs(nsp: Tensor, is_next: Tensor) -> Tensor:
    return pairs(nsp.softmax(-1), is_next)


def summed_pairs(nsp: Tensor, is_next: Tensor) -> Tensor:
    return F.cross_entropy(nsp, (~is_next).long(), reduction="sum")


Part = Callable[[Tensor, Tensor], Tensor]


def both(of_words: Part = words, of_pairs: Part = pairs) -> Callable[..., Tensor]:
    def answer(mlm_logits: Tensor, labels: Tensor, nsp_logits: Tensor, is_next: Tensor) -> Tensor:
        return of_words(mlm_logits, labels) + of_pairs(nsp_logits, is_next)

    return answer


def pooled(mlm: Tensor, labels: Tensor, nsp: Tensor, is_next: Tensor) -> Tensor:
    one_by_one = F.cross_entropy(nsp, (~is_next).long(), reduction="none")
    return torch.cat([each_word(mlm, labels)[labels != IGNORED], one_by_one]).mean()


CLAMPED = (
    "a label of -100 means that nothing is asked for there. Made a 0, it asks for the token of "
    "id 0 at most places of the batch. The loss function can leave them out by itself."
)
PLACES = (
    "the masked words' losses were added up and divided by all places, also those where nothing "
    "is asked for. With 15 % masked, words then count for a seventh. Divide by what was asked for."
)
SIGMOID = (
    "a sigmoid was taken of a score alone, and the other score did not weigh against it. Two "
    "scores for two classes: it is their difference that says which, by a softmax over both."
)
REVERSED = (
    "the two classes of the pairs are the other way round: trained so, a model says 'follows' of "
    "strangers. See which label the lesson's two printed pairs have."
)
AXES = (
    "the axis behind the first is taken for the classes, and here that is the places. What has the "
    "function to be given instead?"
)

loss_of_both = Exercise(
    reference=both(),
    probes=(
        _probe(3, 8, 5, (2, 4, 1)),
        _probe(4, 6, 7, (1, 3, 2, 4)),
        _probe(5, 7, 7, (3, 0, 2, 1, 5)),  # a row with nothing masked, and T = V
        _probe(2, 9, 4, (3, 5), spread=90.0),  # sure, and wrong
    ),
    mistakes=(
        Mistake("averaged over all places", PLACES, both(over_all_places)),
        Mistake("-100 made a token", CLAMPED, both(clamped)),
        Mistake(
            "the mean of each row's mean",
            "each text got a mean of its own, and these were averaged: a word counts for more in a "
            "text with few masked ones, and a text with none gives NaN. One mean over all words "
            "that are asked for.",
            both(mean_of_rows),
        ),
        *(
            Mistake(
                "the mean of each row's mean",
                "each text got a mean of its own, and these were averaged: a word counts for more "
                f"in a text with few masked ones. ({empty}) One mean over all words that are asked "
                "for.",
                both(part),
            )
            for empty, part in {
                "Texts with none were left out well.": mean_of_rows_with_words,
                "And a text with none is taken for one without a loss.": mean_of_rows_or_0,
            }.items()
        ),
        Mistake(
            "texts and places exchanged",
            "the scores are in the order of places first and the labels in that of texts first, so "
            "a word is compared with the scores of another text. Both have to be laid out alike.",
            both(batch_transposed),
        ),
        Mistake(
            "the token of id 0 left out",
            "0 is a token like any other, and where it was masked it is asked for. Only one label "
            "means that nothing is.",
            both(above_0),
        ),
        Mistake(
            "pairs at half weight",
            "the pairs' loss came in halved. BERT adds the two means as they are, though one is "
            "much larger at first.",
            both(of_pairs=lambda nsp, is_next: pairs(nsp, is_next) / 2),
        ),
        Mistake(
            "words summed over a row",
            "the masked words' losses were divided by the texts only. Divide by the words that "
            "were asked for.",
            both(mean_of_row_sums),
        ),
        Mistake(
            "words summed",
            "the masked words' losses were added up and not averaged: a larger batch would have a "
            "larger loss, and drown the pairs.",
            both(summed_words),
        ),
        Mistake(
            "pairs summed",
            "the pairs' losses were added up and not averaged, so that a larger batch gives them "
            "more weight beside the words.",
            both(of_pairs=summed_pairs),
        ),
        Mistake(
            "both summed",
            "both losses were added up and not averaged. Twice the batch would give twice the "
            "gradient.",
            both(summed_words, summed_pairs),
        ),
        Mistake(
            "the two averaged",
            "this is half of it. BERT's loss is the sum of the two means.",
            lambda *given: both()(*given) / 2,
        ),
        Mistake(
            "one mean of all",
            "words and pairs went into one mean. There are far more words than pairs, so the pairs "
            "would hardly count. A mean for each task first.",
            pooled,
        ),
        Mistake("pairs the other way round", REVERSED, both(of_pairs=reversed_pairs)),
        Mistake(
            "pairs the other way round, words over all places",
            f"{PLACES} And class 0 is for a second text that follows.",
            both(over_all_places, reversed_pairs),
        ),
        *(
            Mistake("a sigmoid for two classes", SIGMOID, both(of_pairs=part))
            for part in (by_first_score, by_second_score, by_both_scores)
        ),
        Mistake(
            "only the words",
            "the pairs are missing: nothing would train what is read off the first token.",
            lambda mlm, labels, nsp, is_next: words(mlm, labels),
        ),
        Mistake(
            "only the pairs",
            "the masked words are missing, and they are most of what BERT learns from.",
            lambda mlm, labels, nsp, is_next: pairs(nsp, is_next),
        ),
        *(
            Mistake(
                "softmax twice",
                f"cross_entropy takes raw scores and does the softmax itself. For {whose} it got "
                "probabilities, and between 0 and 1 there is little room to be sure.",
                both(*parts),
            )
            for whose, parts in {
                "the words": (softmax_first, pairs),
                "the pairs": (words, softmaxed_pairs),
                "both": (softmax_first, softmaxed_pairs),
            }.items()
        ),
        Mistake(
            "softmax, then logarithm",
            "this holds while probabilities are moderate. Where the model is sure and wrong, one "
            "is too small for float32, and its logarithm is infinite. A single function does both.",
            both(softmax_then_log),
        ),
        Mistake(
            "shifted, as for GPT",
            "each place was asked for the label of the next one. BERT is asked for a word where it "
            "is covered.",
            both(shifted),
        ),
        Mistake(
            "the axes relabelled",
            "view and reshape do not exchange axes: they cut the same row of numbers elsewhere, so "
            "scores of several places ended up in one.",
            both(relabelled),
        ),
        Mistake(
            "transposed, then cut anew",
            "places and vocabulary were exchanged and the rows cut anew after that, so that scores "
            "of several places ended up in one. With the vocabulary last nothing needs exchanging.",
            both(transposed_and_cut),
        ),
        Mistake(
            "multiplied",
            "the two losses were multiplied. Then each task's step grows with the other's loss. "
            "BERT adds them.",
            lambda mlm, labels, nsp, is_next: words(mlm, labels) * pairs(nsp, is_next),
        ),
        Mistake("three axes", AXES, both(lambda mlm, labels: F.cross_entropy(mlm, labels))),
        Mistake(
            "True and False for classes",
            "cross_entropy wants the number of the class, a whole one. And which class has a pair "
            "that follows, in the release?",
            both(of_pairs=lambda nsp, is_next: F.cross_entropy(nsp, is_next)),
        ),
        Mistake(
            "fractions for classes",
            "given floating numbers, cross_entropy takes them for a probability of each class, and "
            "wants as many as there are scores. It wants the number of the class, a whole one.",
            both(of_pairs=lambda nsp, is_next: F.cross_entropy(nsp, is_next.float())),
        ),
    ),
)
