"""The bank of exercises: mistakes are told apart, and no answer makes a check fall over."""

import contextlib
import itertools
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from companion.lab.bank import check
from companion.lab.exercise import CANNOT_READ, NOT_WRITTEN, RETURNED_NOTHING, Exercise, Mistake

EXERCISES = vars(check)
MISTAKES = [(name, mistake) for name, ex in EXERCISES.items() for mistake in ex.mistakes]


def identify(case):
    return f"{case[0]}-{case[1].name.replace(' ', '_')}"


@pytest.mark.parametrize("case", MISTAKES, ids=identify)
def test_each_mistake_is_called_by_its_own_name(case):
    name, mistake = case
    verdict = EXERCISES[name].verdict(mistake.answer)
    assert f"{mistake.name}: {mistake.hint}" in verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_is_right(name):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.reference).startswith("right")


@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_right(name):
    exercise = EXERCISES[name]
    assert not any(exercise.verdict(m.answer).startswith("right") for m in exercise.mistakes)


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_name_what_is_wrong_without_the_code(name):
    for mistake in EXERCISES[name].mistakes:
        assert len(mistake.hint.split()) >= 6
        assert "@" not in mistake.hint
        assert "[:, " not in mistake.hint


@pytest.mark.parametrize("name", EXERCISES)
def test_no_constant_is_right(name):
    exercise = EXERCISES[name]
    first = exercise.reference(*exercise.probes[0])
    assert not exercise.verdict(lambda *_: first).startswith("right")


def loop_logits(logits, ids):
    total = 0
    for b, t in itertools.product(range(ids.shape[0]), range(ids.shape[1] - 1)):
        total = total - logits[b, t].log_softmax(0)[ids[b, t + 1]]
    return total / (ids.shape[0] * (ids.shape[1] - 1))


def batch_row_by_row(tokens, B, T, step):
    whole = (len(tokens) - 1) // (B * T)
    starts = [(step % whole * B + b) * T for b in range(B)]
    windows = torch.stack([tokens[start : start + T + 1] for start in starts])
    return windows[:, :T], windows[:, 1:]


RIGHT_IN_OTHER_WORDS = {
    "lookup_as_product": [
        lambda ids, w: torch.einsum("btv,vc->btc", F.one_hot(ids, len(w)).float(), w),
        lambda ids, w: (F.one_hot(ids, len(w))[..., None] * w).sum(-2),
        lambda ids, w: (ids[..., None] == torch.arange(len(w))).float() @ w,
        lambda ids, w: F.linear(F.one_hot(ids, w.shape[0]).type_as(w), w.T),
        lambda ids, w: torch.eye(len(w))[ids] @ w,
        lambda ids, w: torch.stack([F.one_hot(row, len(w)).float() @ w for row in ids]),
        lambda ids, w: torch.zeros(*ids.shape, len(w)).scatter_(-1, ids[..., None], 1.0) @ w,
    ],
    "loss_of_a_batch": [
        lambda x, ids: F.cross_entropy(x[:, :-1].transpose(1, 2), ids[:, 1:]),
        lambda x, ids: F.cross_entropy(x[:, :-1].mT, ids[:, 1:]),
        lambda x, ids: (
            -x[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1).sum(-1).mean()
            / (ids.shape[1] - 1)
        ),
        lambda x, ids: F.cross_entropy(x[:, :-1].log_softmax(-1).mT, ids[:, 1:]),
        lambda x, ids: F.cross_entropy(
            x.flatten(0, 1), F.pad(ids[:, 1:], (0, 1), value=-100).flatten()
        ),
        loop_logits,
    ],
    "token_probabilities": [
        lambda x, t, k: (
            x.softmax(-1)
            .pow(1 / t)
            .mul(x >= x.topk(k).values[:, -1:])
            .div(x.softmax(-1).pow(1 / t).mul(x >= x.topk(k).values[:, -1:]).sum(-1, keepdim=True))
        ),
        lambda x, t, k: torch.zeros_like(x).scatter(
            -1, x.topk(k).indices, (x.topk(k).values / t).softmax(-1)
        ),
        lambda x, t, k: (
            (x / t).where(x.argsort(-1, descending=True).argsort(-1) < k, -torch.inf).softmax(-1)
        ),
    ],
    "batch_of_a_text": [
        lambda tokens, B, T, step: [
            x[: (len(tokens) - 1) // (B * T) * B * T].view(-1, B, T)[
                step % ((len(tokens) - 1) // (B * T))
            ]
            for x in (tokens[:-1], tokens[1:])
        ],
        batch_row_by_row,
        lambda *probe: tuple(x.numpy() for x in batch_row_by_row(*probe)),
    ],
}


@pytest.mark.parametrize(
    "case", [(n, i) for n, answers in RIGHT_IN_OTHER_WORDS.items() for i in range(len(answers))]
)
def test_a_right_answer_written_another_way_passes(case):
    name, number = case
    verdict = EXERCISES[name].verdict(RIGHT_IN_OTHER_WORDS[name][number])
    assert verdict.startswith("right"), verdict


def test_every_exercise_was_answered_in_other_words():
    assert RIGHT_IN_OTHER_WORDS.keys() == EXERCISES.keys()


def raise_error(error):
    raise error


class Hostile:
    """An object whose every use raises."""

    def __getattribute__(self, name):
        raise RuntimeError("no")


class BadText(Exception):
    def __str__(self):
        raise ValueError("no text")


STRANGE = {
    "number for function": 3,
    "nothing for function": None,
    "no arguments": lambda: 3,
    "other arguments": lambda a, b, c, d: 3,
    "text": lambda *_: "loss",
    "an object": lambda *_: object(),
    "a hostile object": lambda *_: Hostile(),
    "a ragged list": lambda *_: [[1.0], [1.0, 2.0]],
    "a list of text": lambda *_: ["a"],
    "a dict": lambda *_: {"loss": 1},
    "meta tensor": lambda *_: torch.zeros(2, 4, 3, device="meta"),
    "sparse tensor": lambda *_: torch.zeros(2, 4, 3).to_sparse(),
    "complex": lambda *_: torch.zeros(2, 4, 3, dtype=torch.complex64),
    "booleans": lambda *_: torch.zeros(2, 4, 3, dtype=torch.bool),
    "nan": lambda *_: torch.full((2, 4, 3), torch.nan),
    "empty": lambda *_: torch.empty(0),
    "object array": lambda *_: np.array([object()]),
    "exit": lambda *_: sys.exit(1),
    "interrupt": lambda *_: raise_error(KeyboardInterrupt()),
    "generator exit": lambda *_: raise_error(GeneratorExit()),
    "error without text": lambda *_: raise_error(BadText()),
    "deep recursion": (lambda f: lambda *args: f(f, *args))(lambda f, *args: f(f, *args)),
    "a class": torch.nn.Embedding,
    "itself": check.lookup_as_product,
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", EXERCISES)
def test_no_answer_makes_the_check_raise_or_pass(name, strange, capsys):
    EXERCISES[name](STRANGE[strange])
    said = capsys.readouterr().out.strip()
    assert said
    assert not said.startswith("right")


def double(x):
    return x * 2


def grades(*, seconds=5.0, **options):
    probes = ((torch.tensor([1.0, 2.0]),), (torch.tensor([3.0]),))
    return Exercise(reference=double, probes=probes, seconds=seconds, **options)


def test_an_unwritten_stub_is_said_to_be_one():
    def stub(x):
        """Twice x."""
        raise NotImplementedError

    def dots(x): ...

    assert grades().verdict(stub) == NOT_WRITTEN
    assert grades().verdict(dots) == NOT_WRITTEN


def test_a_forgotten_return_is_said_to_be_one():
    def forgot(x):
        y = x * 2  # noqa: F841

    assert grades().verdict(forgot) == RETURNED_NOTHING


def test_what_an_answer_prints_is_shown_once():
    def talks(x):
        print("x is", x.tolist())
        return x * 2

    verdict = grades().verdict(talks)
    assert verdict.count("x is") == 1
    assert "right, on 2 different inputs" in verdict


def test_a_loop_that_never_ends_is_ended():
    def forever(x):
        while True:
            pass

    def stubborn(x):
        while True:
            with contextlib.suppress(Exception):
                x = x + 1

    for answer in (forever, stubborn):
        assert "still running after 0.2 s" in grades(seconds=0.2).verdict(answer)


def test_an_answer_that_changes_its_argument_is_told_so():
    def in_place(x):
        return x.mul_(2)

    assert "argument 1 was changed in place" in grades().verdict(in_place)


def test_an_answer_cannot_change_the_probes_for_the_next():
    exercise = grades()
    exercise.verdict(lambda x: x.zero_())
    assert exercise.verdict(double).startswith("right")


def test_the_random_state_is_left_as_it_was():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    grades().verdict(lambda x: x + torch.rand(()))
    assert torch.equal(before, torch.get_rng_state())


def test_numpy_answers_are_read():
    assert "right" in grades().verdict(lambda x: x.numpy() * 2)
    assert "right" in grades().verdict(lambda x: (x.numpy() * 2).tolist())


def test_the_first_difference_gives_index_and_both_values():
    verdict = grades().verdict(lambda x: x * 2 + (torch.arange(len(x)) == 1))
    assert verdict == (
        "not yet: on input 1, at (1,) expected 4.0000, got 5.0000 (1 of 2 inputs came out right)"
    )


def test_shape_and_dtype_are_named():
    assert "expected shape (2,), got (2, 1)" in grades().verdict(lambda x: x[:, None] * 2)
    assert "expected torch.float32, got torch.float64" in grades().verdict(lambda x: x.double() * 2)


def test_the_line_that_raised_is_shown():
    def breaks(x):
        return x.view(5, 5)

    assert "at: return x.view(5, 5)" in grades().verdict(breaks)


def test_a_right_value_without_its_gradient_is_not_right():
    exercise = EXERCISES["loss_of_a_batch"]
    for cut in (torch.Tensor.item, torch.Tensor.detach, lambda x: x.detach().numpy()):
        verdict = exercise.verdict(lambda x, ids, cut=cut: cut(exercise.reference(x, ids)))
        assert "no gradient can flow back" in verdict
    lookup = EXERCISES["lookup_as_product"]
    for cut in (torch.Tensor.detach, lambda x: x.detach().numpy()):
        verdict = lookup.verdict(lambda ids, w, cut=cut: cut(lookup.reference(ids, w)))
        assert "no gradient can flow back" in verdict


def test_a_gradient_that_flows_half_way_is_not_right():
    exercise = EXERCISES["loss_of_a_batch"]

    def half(x, ids):
        loss = exercise.reference(x, ids)
        return loss / 2 + loss.detach() / 2

    assert "the gradient is not" in exercise.verdict(half)


def test_looking_up_is_not_multiplying():
    exercise = EXERCISES["lookup_as_product"]
    for answer in (
        lambda ids, w: w[ids],
        lambda ids, w: F.embedding(ids, w),
        lambda ids, w: torch.stack([torch.stack([w[i] for i in row]) for row in ids.tolist()]),
        lambda ids, w: torch.stack([torch.stack([list(w)[i] for i in row]) for row in ids]),
        lambda ids, w: F.embedding_bag(ids.reshape(-1, 1), w).view(*ids.shape, -1),
        lambda ids, w: w.index_select(0, ids.flatten()).view(*ids.shape, -1),
        lambda ids, w: torch.gather(w, 0, ids.reshape(-1, 1).expand(-1, w.shape[1])).view(
            *ids.shape, -1
        ),
    ):
        assert "the weight was looked up" in exercise.verdict(answer)


def test_a_mistake_that_raises_elsewhere_does_not_stop_the_search():
    mistakes = (
        Mistake("broken", "this one cannot even run here", lambda x: x.nothing),
        Mistake("tripled", "one factor is a little too large", lambda x: x * 3),
    )
    assert grades(mistakes=mistakes).verdict(lambda x: x + x + x).startswith("tripled")


def test_what_cannot_be_read_is_said():
    assert grades().verdict(lambda x: torch.zeros(2, device="meta")).startswith(CANNOT_READ)
