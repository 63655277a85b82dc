"""The exercises of every lesson, each under its name: `check.NAME(yours)`."""

from types import SimpleNamespace

from companion.lab.bank import (
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_14,
)

check = SimpleNamespace(
    lookup_as_product=lesson_01.lookup_as_product,
    one_for_two=lesson_02.one_for_two,
    reader=lesson_03.reader,
    attend_at_once=lesson_04.attend_at_once,
    merge_pair=lesson_06.merge_pair,
    loss_of_a_batch=lesson_07.loss_of_a_batch,
    causal_weights=lesson_08.causal_weights,
    attention_weights=lesson_09.attention_weights,
    batch_of_a_text=lesson_14.batch_of_a_text,
)
