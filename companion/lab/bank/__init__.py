"""The exercises of every lesson, each under its name: `check.NAME(yours)`."""

from types import SimpleNamespace

from companion.lab.bank import lesson_01, lesson_07, lesson_13, lesson_14

check = SimpleNamespace(
    lookup_as_product=lesson_01.lookup_as_product,
    loss_of_a_batch=lesson_07.loss_of_a_batch,
    token_probabilities=lesson_13.token_probabilities,
    batch_of_a_text=lesson_14.batch_of_a_text,
)
