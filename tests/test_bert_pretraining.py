"""Lesson 23: pairs that do not give themselves away, and the loop that trains both tasks."""

import ast
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from companion import assets, lab
from companion.assets.texts import source_files
from companion.bert_config import BertConfig
from companion.bert_heads import BertForPreTraining
from companion.bert_inputs import IGNORED
from companion.bert_pretraining import cut_pairs, hide_words, judge, pretrain, widen_
from companion.wordpiece import SPECIAL, WordPieceTokenizer

tokenizer = WordPieceTokenizer([*SPECIAL, *(f"t{n}" for n in range(995))])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def documents_of(lengths):
    """Documents that say in each token which one they are and where it stands."""
    return [1000 * n + torch.arange(length) for n, length in enumerate(lengths, start=1)]


def small(**sizes):
    torch.manual_seed(0)
    config = {"vocab_size": 1000, "hidden_size": 8, "num_hidden_layers": 1} | sizes
    config |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
    return BertForPreTraining(BertConfig(**config))


lengths = st.lists(st.integers(0, 60), min_size=5, max_size=14)


@settings(deadline=None)
@given(lengths, st.integers(1, 6), st.integers(0, 10**6))
def test_a_pair_is_a_passage_and_the_next_or_one_of_another_document(lengths, length, seed):
    documents = documents_of(lengths)
    try:
        pairs = cut_pairs(documents, length, tokenizer, seeded(seed))
    except ValueError:  # one document has too much of all; there is a test of that
        return
    first, second = pairs.ids[:, 1 : length + 1], pairs.ids[:, length + 2 : -1]
    step = torch.arange(length)
    assert torch.equal(first, first[:, :1] + step)
    assert torch.equal(second, second[:, :1] + step)
    follows = pairs.labels == 0
    assert torch.equal(second[follows], first[follows] + length)
    assert (first[~follows] // 1000 != second[~follows] // 1000).all()


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_each_passage_is_second_once_whichever_the_labels(seed):
    documents = documents_of([40, 33, 27, 38, 35, 36, 44, 31, 39, 37] * 2)
    pairs = cut_pairs(documents, 4, tokenizer, seeded(seed))
    firsts, seconds = pairs.ids[:, 1], pairs.ids[:, 6]
    assert torch.equal(seconds.sort().values, (firsts + 4).sort().values)


def test_half_of_the_pairs_follow_and_each_side_has_its_type():
    pairs = cut_pairs(documents_of([900] * 20), 4, tokenizer, seeded())
    assert 0.47 < pairs.labels.float().mean() < 0.53
    assert pairs.types.shape == pairs.ids.shape
    assert pairs.types[0].tolist() == [0] * 6 + [1] * 5
    assert (pairs.ids[:, 0] == tokenizer.cls_id).all()
    assert (pairs.ids[:, [5, 10]] == tokenizer.sep_id).all()


def test_the_same_seed_cuts_the_same_pairs_and_another_others():
    documents = documents_of([80] * 15)
    one, same, other = (cut_pairs(documents, 4, tokenizer, seeded(n)) for n in (1, 1, 2))
    assert torch.equal(one.ids, same.ids)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.ids[:5], other.ids[:5])


def test_documents_that_cannot_be_paired_are_refused():
    for documents in ([], documents_of([3, 2]), documents_of([500, 90, 90])):
        with pytest.raises(ValueError, match="passages"):
            cut_pairs(documents, 4, tokenizer, seeded())


@torch.no_grad()
def test_what_is_judged_is_the_mean_over_masked_words_and_the_share_of_pairs():
    model = small().train()
    pairs = cut_pairs(documents_of([90, 80] * 8), 5, tokenizer, seeded())
    pairs = pairs._replace(ids=pairs.ids % 1000)
    inputs, labels = hide_words(pairs.ids, tokenizer, seeded())
    words, follows = model.eval()(inputs, None, pairs.types)
    loss = F.cross_entropy(words.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    right = (follows.argmax(1) == pairs.labels).float().mean()
    judged = judge(model.train(), inputs, labels, pairs, rows=7)
    assert judged.words.mean().item() == pytest.approx(loss.item(), rel=1e-5)
    assert judged.pairs == pytest.approx(right.item())
    assert model.training


def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_run():
    documents = [document % 1000 for document in documents_of([90, 80] * 8)]
    pairs = cut_pairs(documents, 5, tokenizer, seeded())
    given = (*hide_words(pairs.ids, tokenizer, seeded()), pairs)

    def words_of(model):
        return judge(model, *given).words.mean().item()

    runs = []
    for _ in range(2):
        model = small()
        before = words_of(model)
        how = {"steps": 50, "lr": 1e-2, "length": 5, "batch": 8, "every": 20}
        runs.append(pretrain(model, documents, tokenizer, **how, watch=words_of))
    assert [step for step, _ in runs[0]] == [20, 40, 50]
    assert runs[0] == runs[1]
    assert runs[0][-1][1] < before - 0.5


def test_widening_scales_the_linears_and_leaves_the_tables():
    model, other = small(hidden_size=64), small(hidden_size=64)
    widen_(other, 0.07)
    table = model.bert.embeddings.word_embeddings.weight
    assert torch.equal(table, other.bert.embeddings.word_embeddings.weight)
    assert other.cls.predictions.decoder.weight is other.bert.embeddings.word_embeddings.weight
    for (name, one), two in zip(model.named_modules(), other.modules()):
        if isinstance(one, nn.Linear) and name != "cls.predictions.decoder":
            torch.testing.assert_close(two.weight, one.weight * 3.5)


# --- what the lesson recorded ---------------------------------------------------------------------


@pytest.fixture
def the_lesson(monkeypatch):
    """What the lesson defines, on a little of its text: imports, functions and constants."""
    prose = lab.prose()
    little = prose._replace(
        train=[document[:150] for document in prose.train[::3]],
        train_manual=prose.train_manual[::3],
        held_out=[document[:150] for document in prose.held_out],
    )
    monkeypatch.setattr(lab, "prose", lambda commonest=None: little)
    path = Path(__file__).parents[1] / "notebooks" / "23_bert_pretraining.ipynb"
    names = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        kept = [
            node
            for node in ast.parse("".join(cell["source"])).body
            if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper())
        ]
        exec(compile(ast.Module(kept, []), str(path), "exec"), names)
    return names


def test_the_recorded_experiment_can_be_run_again(the_lesson):
    found = the_lesson["fewer_pieces"](seed=0, steps=2)
    path = lab.records.RUNS / "23_bert_pretraining_fewer_pieces.json"
    recorded = json.loads(path.read_text())["results"]["0"]
    assert json.loads(json.dumps(found)).keys() == recorded.keys()


# --- the text -------------------------------------------------------------------------------------


def test_the_files_in_a_row_are_the_source():
    files = source_files()
    assert list(files) == sorted(files)
    assert "".join(files.values()) == assets.text("python_source")


def test_docstrings_are_sentences_that_a_reader_would_call_so():
    found = lab.docstrings()
    assert len(found) > 200
    for document in found:
        assert len(document) >= 5
        assert all(len(sentence.split()) >= 5 for sentence in document)
        assert not any(">>>" in sentence or "\n" in sentence for sentence in document)


def test_the_prose_is_in_tokens_that_occur_and_nothing_of_it_is_held_out_twice():
    prose = lab.prose()
    every = torch.cat([*prose.train, *prose.held_out])
    assert prose.words == len(every)
    assert int(every.max()) < prose.tokenizer.vocab_size < 10_000
    assert (every != prose.tokenizer.unk_id).float().mean() > 0.999
    assert len(prose.train) == len(prose.train_manual)
    assert len(prose.held_out) == len(prose.held_out_manual)
    assert 6 < len(prose.train) / len(prose.held_out) < 8
    assert 0 < sum(prose.held_out_manual) < sum(prose.train_manual)
    trained = {tuple(document[:40].tolist()) for document in prose.train}
    assert not any(tuple(document[:40].tolist()) in trained for document in prose.held_out)


def test_the_commonest_tokens_and_characters_read_the_same_text():
    every, few = lab.prose(), lab.prose(1000)
    assert 1000 < few.tokenizer.vocab_size < 1200
    assert few.tokenizer.vocab.keys() <= every.tokenizer.vocab.keys()
    assert len(few.held_out) == len(every.held_out)
    assert few.words > every.words
    assert (torch.cat(few.train) != few.tokenizer.unk_id).float().mean() > 0.999


def test_more_words_are_hidden_where_asked():
    ids = torch.randint(5, 1000, (100, 50))
    for p in (0.15, 0.4):
        labels = hide_words(ids, tokenizer, seeded(), p)[1]
        assert (labels != IGNORED).float().mean().item() == pytest.approx(p, abs=0.03)


def test_minilms_words_keep_who_is_alike():
    tokenizer = lab.prose().tokenizer
    words = lab.minilm_words(tokenizer, 64)
    assert words.shape == (tokenizer.vocab_size, 64)
    assert words.std().item() == pytest.approx(0.02, rel=1e-4)
    near = F.cosine_similarity(words[tokenizer.vocab["file"]], words, dim=-1)
    assert near[tokenizer.vocab["files"]] > near[tokenizer.vocab["thread"]] + 0.2
