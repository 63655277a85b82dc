"""Lesson 14: a batch of rows, cut from a text of ids, and the targets of each position."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Batch = tuple[Tensor, Tensor]
Answer = Callable[[Tensor, int, int, int], Batch]


def whole_batches(tokens: Tensor, B: int, T: int) -> int:
    return (len(tokens) - 1) // (B * T)


def cut(tokens: Tensor, start: int, B: int, T: int, shift: int = 1) -> Batch:
    """The batch that begins at `start`, its targets `shift` places on."""
    ids = tokens[start : start + B * T].view(B, T)
    return ids, tokens[start + shift : start + shift + B * T].view(B, T)


def reference(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    return cut(tokens, step % whole_batches(tokens, B, T) * B * T, B, T)


def with_targets(make: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """An answer whose ids are right and whose targets are `make(ids, targets)`."""

    def answer(tokens: Tensor, B: int, T: int, step: int) -> Batch:
        ids, targets = reference(tokens, B, T, step)
        return ids, make(ids, targets)

    return answer


def from_place(place: Callable[[Tensor, int, int, int], int], shift: int = 1) -> Answer:
    """An answer that begins its batch at `place(tokens, B, T, step)`."""

    def answer(tokens: Tensor, B: int, T: int, step: int) -> Batch:
        return cut(tokens, place(tokens, B, T, step), B, T, shift)

    return answer


def of_rolled(shift: int) -> Answer:
    """An answer whose targets are cut from the text rolled by `shift`."""

    def answer(tokens: Tensor, B: int, T: int, step: int) -> Batch:
        return tuple(reference(some, B, T, step)[0] for some in (tokens, tokens.roll(shift)))

    return answer


def down_the_columns(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    ids, targets = reference(tokens, B, T, step)
    return ids.reshape(T, B).T, targets.reshape(T, B).T


def rows_of_one_more(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = step % whole_batches(tokens, B, T) * B * T
    window = tokens.roll(-start)[: B * (T + 1)].view(B, T + 1)
    return window[:, :-1], window[:, 1:]


def in_order(tokens: Tensor, B: int, T: int, step: int) -> int:
    return step % whole_batches(tokens, B, T) * B * T


def one_too_many(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    return cut(tokens, step % (len(tokens) // (B * T)) * B * T, B, T)


def padded(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = step % (len(tokens) // (B * T)) * B * T
    return cut(F.pad(tokens, (0, 1)), start, B, T)


def back_to_the_first(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = step * B * T
    return cut(tokens, start if start + B * T < len(tokens) else 0, B, T)


def side_by_side(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    """B streams, each a piece of the text, read along together."""
    streams = [x[: len(x) // B * B].view(B, -1) for x in (tokens[:-1], tokens[1:])]
    start = step % (streams[0].shape[1] // T) * T
    return tuple(x[:, start : start + T] for x in streams)


def rolled_too_many(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    """The last target of the text is its first token."""
    start = step % (len(tokens) // (B * T)) * B * T
    return tuple(x[start : start + B * T].view(B, T) for x in (tokens, tokens.roll(-1)))


def one_too_few(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    """Begins again although just enough is left."""
    return cut(tokens, step % ((len(tokens) - 2) // (B * T)) * B * T, B, T)


def fewer_for_longer_batches(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    return cut(tokens, step % (len(tokens) // (B * T + 1)) * B * T, B, T)


def rounded_up(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    return cut(tokens, step % -((1 - len(tokens)) // (B * T)) * B * T, B, T)


def window_rounded_up(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = step % -((1 - len(tokens)) // (B * T)) * B * T
    window = tokens[start : start + B * T + 1]
    return window[:-1].view(B, T), window[1:].view(B, T)


def targets_one_short(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = in_order(tokens, B, T, step)
    ids = tokens[start : start + B * T].view(B, T)
    return ids, tokens[start + 1 : start + B * T].view(B, T)


def made_up(number: int) -> list[Answer]:
    """Answers whose last target of each row, or of the batch, is `number`."""
    return [
        with_targets(lambda ids, targets: F.pad(ids[:, 1:], (0, 1), value=number)),
        with_targets(
            lambda ids, targets: F.pad(ids.flatten()[1:], (0, 1), value=number).view_as(ids)
        ),
    ]


def one_more_each_time(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    return cut(tokens, step % (len(tokens) // (B * T + 1)) * (B * T + 1), B, T)


def one_row_too_many(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    rows = len(tokens) // T
    ids, targets = tokens[: rows * T].view(rows, T), tokens[1 : rows * T + 1].view(rows, T)
    start = step % (rows // B) * B
    return ids[start : start + B], targets[start : start + B]


def row_by_row(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    """All whole rows, in a ring: a batch may go on from the last to the first."""
    rows = (len(tokens) - 1) // T
    ids, targets = tokens[: rows * T].view(rows, T), tokens[1 : rows * T + 1].view(rows, T)
    ring = (step * B + torch.arange(B)) % rows
    return ids[ring], targets[ring]


def one_window(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    start = in_order(tokens, B, T, step)
    window = tokens[start : start + B * T + 1].view(B, T + 1)
    return window[:, :-1], window[:, 1:]


def begins_again_once(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    whole = whole_batches(tokens, B, T)
    return cut(tokens, (step - whole if step >= whole else step) * B * T, B, T)


def round_the_end(tokens: Tensor, B: int, T: int, step: int) -> Batch:
    places = (step * B * T + torch.arange(B * T)) % len(tokens)
    return tokens[places].view(B, T), tokens[(places + 1) % len(tokens)].view(B, T)


def _probe(N: int, B: int, T: int, step: int) -> tuple[Tensor, int, int, int]:
    return torch.randperm(N, generator=torch.Generator().manual_seed(N)), B, T, step


BEFORE = (
    "each position is asked for the token before it. Write down one row: what comes after its "
    "first id?"
)
TWICE = "each position is asked for the token after the next. Is one shift done already?"
SKIPS = "the first batch is right; the next ones do not begin where the one before ended. "
ONE_MORE = "One token is never read: the batch's last target. It is the next one's first id too."
LAST = (
    "at the end of the text a batch was cut whose last target does not exist. How many tokens does "
    "a batch need, targets and all? And so how many whole batches has a text of N?"
)
TOO_FEW = (
    "a batch that is whole, with all of its targets, is never given: the text is begun again one "
    "batch too early. Of 7 tokens, how many batches of one row of 3 can be cut?"
)
MADE_UP = (
    "a last target was made up. The text goes on behind the row, and behind the batch: which token "
    "comes there?"
)

batch_of_a_text = Exercise(
    reference=reference,
    probes=(
        _probe(40, 3, 4, 0),
        _probe(40, 3, 4, 2),
        _probe(37, 2, 3, 5),
        _probe(41, 3, 4, 4),  # the second time round
        _probe(39, 3, 4, 16),  # the sixth
        _probe(50, 4, 3, 9),
        _probe(23, 2, 3, 22),  # the eighth
        _probe(24, 2, 4, 2),  # three batches of ids, and no token left for the last target
        _probe(7, 1, 3, 1),
        (torch.arange(60) % 7 % 4, 5, 1, 3),  # tokens come again; rows of one
    ),
    mistakes=(
        Mistake(
            "not shifted",
            "the targets are the ids themselves: each position is asked for the token that it has "
            "just read. Which token should it be asked for?",
            with_targets(lambda ids, targets: ids.clone()),
        ),
        Mistake(
            "shifted the wrong way",
            BEFORE,
            from_place(in_order, shift=-1),
        ),
        Mistake("shifted the wrong way", BEFORE, of_rolled(1)),
        Mistake(
            "shifted twice",
            TWICE,
            from_place(in_order, shift=2),
        ),
        Mistake("shifted twice", TWICE, of_rolled(-2)),
        Mistake("shifted twice", TWICE, with_targets(lambda ids, targets: targets.roll(-1, 1))),
        Mistake(
            "wrapped round in the row",
            "the last position of each row is asked for the first token of the same row. Which "
            "token of the text follows it?",
            with_targets(lambda ids, targets: ids.roll(-1, 1)),
        ),
        *(
            Mistake("a made-up last target", MADE_UP, answer)
            for number in (0, -100)
            for answer in made_up(number)
        ),
        Mistake(
            "the last target left out",
            "the targets are one short in each row. The text goes on behind the row: which token "
            "comes there?",
            with_targets(lambda ids, targets: ids[:, 1:]),
        ),
        Mistake(
            "the last target left out",
            "the slice for the targets ends where the one for the ids does. It begins one place "
            "later: where should it end?",
            targets_one_short,
        ),
        Mistake(
            "targets in one long row",
            "the targets stand in the rows of the ids. It is the model that makes one row of both, "
            "for the loss.",
            with_targets(lambda ids, targets: targets.flatten()),
        ),
        Mistake(
            "down the columns",
            "the text runs from row to row, so that neighbours in a row are not neighbours in the "
            "text. A row should be a piece of the text as it stands.",
            down_the_columns,
        ),
        Mistake(
            "rows of one token more",
            "each row begins one token later than it should: its last target was not used again as "
            "the next row's first id. It is a target there, and an id here.",
            rows_of_one_more,
        ),
        Mistake(
            "a batch moves on by its rows' length",
            SKIPS + "It moved on by T. How many tokens did the batch read?",
            from_place(lambda tokens, B, T, step: step * T),
        ),
        Mistake(
            "a batch moves on by its rows' length",
            SKIPS + "It moved on by T. How many tokens did the batch read?",
            from_place(lambda tokens, B, T, step: step % whole_batches(tokens, B, T) * T),
        ),
        Mistake(
            "a batch moves on by one token",
            SKIPS + "It moved on by one token. How many tokens did the batch read?",
            from_place(lambda tokens, B, T, step: step),
        ),
        Mistake(
            "a batch moves on by one token too many",
            SKIPS + ONE_MORE,
            from_place(lambda tokens, B, T, step: step % whole_batches(tokens, B, T) * (B * T + 1)),
        ),
        Mistake("a batch moves on by one token too many", SKIPS + ONE_MORE, one_more_each_time),
        Mistake(
            "back to the first batch, and there for ever",
            "past the end of the text every step gets batch 0. After the last whole batch come "
            "the first, the second, the third again.",
            back_to_the_first,
        ),
        Mistake(
            "rows far apart",
            "the text was cut into B long pieces that are read side by side. That can be done, but "
            "here a batch is one piece of the text: each row goes on where the one above it ended.",
            side_by_side,
        ),
        Mistake(
            "an axis lost",
            "where a batch has one row, or rows of one token, an axis is gone. Ids and targets "
            "should have two axes whatever their sizes.",
            lambda tokens, B, T, step: tuple(x.squeeze() for x in reference(tokens, B, T, step)),
        ),
        Mistake(
            "counted from one",
            "the first batch of the text is passed over. Where does batch 0 begin?",
            from_place(lambda tokens, B, T, step: (step + 1) % whole_batches(tokens, B, T) * B * T),
        ),
        Mistake(
            "wrapped round in the batch",
            "the last position of a batch is asked for the first token of the same batch. The text "
            "goes on behind the batch: which token comes there?",
            with_targets(lambda ids, targets: ids.flatten().roll(-1).view_as(ids)),
        ),
        Mistake(
            "one row too many",
            "where T divides the text, the last row of ids has no last target. How many rows have "
            "all of theirs?",
            one_row_too_many,
        ),
        Mistake(
            "rows of T + 1 side by side",
            "a row and its targets are T + 1 tokens, but the next row begins with the last of "
            "them again, so a batch is not B times as many. Give rows to ids and targets, each.",
            one_window,
        ),
        Mistake(
            "rows in a ring",
            "at the end of the text a batch went on with the first rows. Only whole batches are "
            "wanted: where too few rows are left, begin the batch at the start.",
            row_by_row,
        ),
        Mistake(
            "begins again only once",
            "the second time round is right, and the third is not. A step may lie many times the "
            "text's length ahead.",
            begins_again_once,
        ),
        Mistake(
            "stays at the last batch",
            "past the end of the text every step gets the last whole batch. Begin again at the "
            "start.",
            from_place(
                lambda tokens, B, T, step: min(step, whole_batches(tokens, B, T) - 1) * B * T
            ),
        ),
        Mistake("one batch too many", LAST, one_too_many),
        Mistake("one batch too many", LAST, padded),
        Mistake("one batch too many", LAST, rolled_too_many),
        Mistake("one batch too many", LAST, rounded_up),
        Mistake("one batch too many", LAST, window_rounded_up),
        Mistake("one batch too few", TOO_FEW, one_too_few),
        Mistake("one batch too few", TOO_FEW, fewer_for_longer_batches),
        Mistake(
            "the place wrapped, not the batch",
            "past the end of the text a batch begins in the middle of another one. Count whole "
            "batches, and wrap their number.",
            from_place(lambda tokens, B, T, step: step * B * T % len(tokens)),
        ),
        Mistake(
            "round the end",
            "a batch at the end of the text goes on with its beginning, as if the last token were "
            "followed by the first. Cut whole batches only, then begin again at the start.",
            round_the_end,
        ),
        Mistake(
            "no beginning again",
            "past the end of the text there is nothing to cut. After the last whole batch, begin "
            "again at the start.",
            from_place(lambda tokens, B, T, step: step * B * T),
        ),
        Mistake(
            "one long row",
            "these are the right tokens in one row. Cut them into B rows of T.",
            lambda tokens, B, T, step: tuple(x.flatten() for x in reference(tokens, B, T, step)),
        ),
        Mistake(
            "rows and columns exchanged",
            "these have T rows of B. A batch has B rows of T tokens.",
            lambda tokens, B, T, step: tuple(x.T for x in reference(tokens, B, T, step)),
        ),
        Mistake(
            "targets first",
            "ids and targets were returned in the other order.",
            lambda tokens, B, T, step: reference(tokens, B, T, step)[::-1],
        ),
    ),
    show=lambda tokens, B, T, step: f"{len(tokens)} tokens, B={B}, T={T}, step={step}",
)
