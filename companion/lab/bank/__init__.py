"""The exercises of every lesson, each under its name: `check.NAME(yours)`."""

from types import SimpleNamespace

from companion.lab.bank import (
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
    lesson_09,
    lesson_10,
    lesson_11,
    lesson_12,
    lesson_13,
    lesson_14,
    lesson_15,
    lesson_16,
    lesson_21,
    lesson_22,
)

check = SimpleNamespace(
    lookup_as_product=lesson_01.lookup_as_product,
    one_for_two=lesson_02.one_for_two,
    reader=lesson_03.reader,
    attend_at_once=lesson_04.attend_at_once,
    dropout=lesson_05.dropout,
    merge_pair=lesson_06.merge_pair,
    encode_word=lesson_06.encode_word,
    loss_of_a_batch=lesson_07.loss_of_a_batch,
    causal_weights=lesson_08.causal_weights,
    attention_weights=lesson_09.attention_weights,
    attention=lesson_10.attention,
    start_as_gpt2=lesson_11.start_as_gpt2,
    one_table=lesson_12.one_table,
    token_probabilities=lesson_13.token_probabilities,
    batch_of_a_text=lesson_14.batch_of_a_text,
    stop_at=lesson_15.stop_at,
    mended_attention=lesson_16.mended_attention,
    added_to_scores=lesson_21.added_to_scores,
    labels_to_guess=lesson_21.labels_to_guess,
    bert_layer=lesson_22.bert_layer,
    mean_of_tokens=lesson_22.mean_of_tokens,
)
