"""The exercises of every lesson, each under its name: `check.NAME(yours)`."""

from types import SimpleNamespace

from companion.lab.bank import lesson_01, lesson_02, lesson_07, lesson_14

check = SimpleNamespace(
    lookup_as_product=lesson_01.lookup_as_product,
    one_for_two=lesson_02.one_for_two,
    loss_of_a_batch=lesson_07.loss_of_a_batch,
    batch_of_a_text=lesson_14.batch_of_a_text,
)
