"""The exercises of every lesson, each under its name: `check.NAME(yours)`."""

from types import SimpleNamespace

from companion.lab.bank import lesson_01, lesson_07, lesson_09, lesson_14

check = SimpleNamespace(
    lookup_as_product=lesson_01.lookup_as_product,
    loss_of_a_batch=lesson_07.loss_of_a_batch,
    attention_weights=lesson_09.attention_weights,
    batch_of_a_text=lesson_14.batch_of_a_text,
)
