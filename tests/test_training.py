"""Lesson 14's loader, estimate and loop: what a run reads, and what it does not depend on."""

import json
import os
import subprocess
import sys
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from companion.data import CharTokenizer, DataLoaderLite, write_tokens
from companion.gpt import GPT, GPTConfig
from companion.lab import corpus, counted_loss, trigram_loss
from companion.training import estimate_loss, train

ROOT = Path(__file__).parents[1]
TEXT = "the cat sat on the mat and the dog sat on the log\n" * 40


@pytest.fixture
def file(tmp_path):
    """A file whose ids say where they stand."""

    def make(N):
        write_tokens(tmp_path / f"{N}.npy", range(N))
        return tmp_path / f"{N}.npy"

    return make


def tiny(V=20, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    sizes = {"vocab_size": V, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16}
    return GPT(GPTConfig(**sizes, dropout=dropout))


@pytest.fixture
def loaders(tmp_path):
    """Makes a loader for training and one for what is held out, of a small real text."""
    tokenizer = CharTokenizer(TEXT)
    cut = len(TEXT) * 9 // 10
    for name, part in (("train", TEXT[:cut]), ("val", TEXT[cut:])):
        write_tokens(tmp_path / f"{name}.npy", tokenizer.encode(part))

    def make(seed=0):
        return [DataLoaderLite(tmp_path / f"{n}.npy", 4, 8, seed=seed) for n in ("train", "val")]

    return make


# --- the tokenizer ----------------------------------------------------------------------------


@given(text=st.text(min_size=1))
@settings(deadline=None)
def test_decoding_undoes_encoding(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert set(ids) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(torch.tensor(ids)) == text


def test_what_the_tokenizer_does_not_know_is_refused():
    tokenizer = CharTokenizer("abc")
    with pytest.raises(ValueError, match="'d' is not one of the 3"):
        tokenizer.encode("bad")
    for unknown in (-1, 3):
        with pytest.raises(ValueError, match=f"id {unknown}"):
            tokenizer.decode([0, unknown])
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer("")


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("largest", "size"), [(65_535, 2), (65_536, 4), (2**32 - 1, 4)])
def test_ids_take_as_few_bytes_as_hold_them(tmp_path, largest, size):
    path = tmp_path / "ids.npy"
    write_tokens(path, [0, largest])
    kept = np.load(path)
    assert kept.tolist() == [0, largest]
    assert kept.dtype.itemsize == size


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "ids.npy"
    write_tokens(path, [1, 2, 3])

    def fail(stream, array):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tokens(path, [4, 5, 6])
    assert np.load(path).tolist() == [1, 2, 3]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("ids", [[], [-1, 2], [[1, 2]], [0.5], [2**32]])
def test_what_is_no_row_of_ids_is_refused(tmp_path, ids):
    with pytest.raises(ValueError, match="whole numbers"):
        write_tokens(tmp_path / "ids.npy", ids)
    assert not list(tmp_path.iterdir())


# --- the loader -------------------------------------------------------------------------------


@given(N=st.integers(2, 60), B=st.integers(1, 4), T=st.integers(1, 7), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_reads_every_row_once_and_targets_are_one_on(tmp_path_factory, N, B, T, seed):
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    write_tokens(path, range(N))
    if (N - 1) // T < B:
        with pytest.raises(ValueError, match=f"B={B}"):
            DataLoaderLite(path, B, T, seed=seed)
        return
    loader = DataLoaderLite(path, B, T, seed=seed)
    for epoch in range(2):
        starts = []
        for _ in range(loader.rows // B):
            ids, targets = loader.next_batch()
            assert loader.epoch == epoch
            assert ids.shape == targets.shape == (B, T)
            assert torch.equal(targets, ids + 1)
            assert (ids.diff(dim=1) == 1).all()
            starts += ids[:, 0].tolist()
        assert len(set(starts)) == len(starts)
        assert set(starts) <= {row * T for row in range((N - 1) // T)}


def test_every_epoch_has_an_order_of_its_own_that_the_seed_decides(file):
    def order(seed):
        loader = DataLoaderLite(file(101), 5, 4, seed=seed)
        return [loader.next_batch()[0][:, 0].tolist() for _ in range(10)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[:5] != order(0)[5:]


def test_the_loader_neither_reads_nor_moves_the_global_random_state(file):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    DataLoaderLite(file(50), 2, 4).next_batch()
    assert torch.equal(before, torch.get_rng_state())
    first = DataLoaderLite(file(50), 2, 4).next_batch()
    torch.manual_seed(2)
    second = DataLoaderLite(file(50), 2, 4).next_batch()
    assert torch.equal(first[0], second[0])


@given(batches=st.integers(1, 12))
@settings(max_examples=12, deadline=None)
def test_spread_batches_are_the_same_and_leave_the_order_alone(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    write_tokens(path, range(100))
    looked, alone = DataLoaderLite(path, 3, 4), DataLoaderLite(path, 3, 4)
    for _ in range(10):
        spread = looked.spread(batches)
        assert len(spread) == min(batches, 8)
        again = looked.spread(batches)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(spread, again))
        assert torch.equal(looked.next_batch()[0], alone.next_batch()[0])
    starts = torch.cat([ids[:, 0] for ids, _ in spread])
    assert len(starts.unique()) == len(starts)
    assert starts[0] == 0
    assert starts[-1] == 92  # the last row: the whole file is seen


def test_the_file_is_mapped_and_not_read(file):
    assert isinstance(DataLoaderLite(file(50), 2, 4).tokens, np.memmap)


# --- the estimate -----------------------------------------------------------------------------


def test_the_estimate_is_the_mean_over_tokens_and_not_over_batches():
    model = tiny()
    ids = torch.randint(20, (5, 8), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(1)
    targets[0, :6] = -100
    parts = [(ids[:1], targets[:1]), (ids[1:], targets[1:])]
    whole = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()).item()
    means = sum(model(*part).item() for part in parts) / 2
    assert estimate_loss(model, parts) == pytest.approx(whole, rel=1e-5)
    assert means != pytest.approx(whole, rel=1e-5)


def test_the_estimate_is_without_dropout_and_leaves_no_trace(loaders):
    model = tiny(dropout=0.5).train()
    model.h[0].eval()
    modes = [module.training for module in model.modules()]
    batches = loaders()[1].spread(3)
    without_dropout = estimate_loss(tiny(dropout=0.0), batches)
    before = torch.get_rng_state()
    first, second = estimate_loss(model, batches), estimate_loss(model, batches)
    assert first == second == pytest.approx(without_dropout)
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())


def test_no_tokens_give_no_estimate(loaders):
    with pytest.raises(ValueError, match="no token"):
        estimate_loss(tiny(), [])
    ids = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="no token"):
        estimate_loss(tiny(), [(ids, torch.full_like(ids, -100))])


# --- the loop ---------------------------------------------------------------------------------


def quiet(steps, what):
    return steps


def test_looking_does_not_change_the_run(loaders):
    def losses(**options):
        return train(tiny(dropout=0.2), *loaders(), steps=12, bar=quiet, **options).loss

    def look(step, train_loss, val_loss):
        seen.append((step, train_loss, val_loss))

    seen = []
    often = losses(evaluate_every=1, batches=5, watch=look)
    assert often == losses(evaluate_every=100, batches=1)
    assert [step for step, *_ in seen] == [*range(13)]


def test_the_seeds_decide_the_run(loaders):
    def losses(model_seed, loader_seed):
        return train(tiny(seed=model_seed), *loaders(loader_seed), steps=5, bar=quiet).loss

    assert losses(0, 0) == losses(0, 0)
    assert losses(0, 0) != losses(1, 0)
    assert losses(0, 0) != losses(0, 1)


def test_training_learns_what_the_text_says(loaders):
    history = train(tiny(), *loaders(), steps=150, lr=3e-3, bar=quiet)
    (first, *untrained), (last, *trained) = history.evaluated[0], history.evaluated[-1]
    assert (first, last) == (0, 150)
    assert untrained == pytest.approx([log(20)] * 2, abs=0.2)
    assert max(trained) < 1.2
    assert len(history.loss) == 150


def test_the_loop_is_what_it_says_step_by_step(loaders):
    model, loader = tiny(), loaders()[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    by_hand = []
    for _ in range(4):
        ids, targets = loader.next_batch()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        by_hand.append(loss.item())
    history = train(tiny(), *loaders(), steps=4, lr=1e-2, bar=quiet)
    assert history.loss == pytest.approx(by_hand, rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run(loaders):
    model = tiny()
    with torch.no_grad():
        model.ln_f.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="at step 0"):
        train(model, *loaders(), steps=3, bar=quiet)


PROGRAM = """
import json, sys, tempfile
from pathlib import Path
import torch
from companion.data import CharTokenizer, DataLoaderLite, write_tokens
from companion.gpt import GPT, GPTConfig
from companion.training import train

text = {text!r}
tokenizer = CharTokenizer(text)
with tempfile.TemporaryDirectory() as folder:
    write_tokens(Path(folder, "ids.npy"), tokenizer.encode(text))
    loaders = [DataLoaderLite(Path(folder, "ids.npy"), 4, 8, seed=1) for _ in range(2)]
    torch.manual_seed(0)
    sizes = dict(n_layer=2, n_head=2, n_embd=16, dropout=0.1)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=8, **sizes))
    history = train(model, *loaders, steps=6, evaluate_every=3, batches=2)
print(json.dumps([history.loss, history.evaluated]))
"""


def test_a_notebook_and_a_script_give_the_same_losses(tmp_path):
    program = PROGRAM.format(text=TEXT)
    (tmp_path / "program.py").write_text(program)
    script = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    notebook = new_notebook(cells=[new_code_cell(program)])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = [o.text for o in notebook.cells[0].outputs if o.get("name") == "stdout"]
    assert json.loads("".join(printed)) == json.loads(script.stdout)


# --- the rival --------------------------------------------------------------------------------


def test_trigrams_are_counted_as_by_hand():
    train_ids, val_ids = [0, 1, 0, 1, 2], [0, 1, 0, 1]
    # after (0, 1) came 0 and 2; after (1, 0) came 1 once
    p = [(1 + 0.5) / (2 + 1.5), (1 + 0.5) / (1 + 1.5)]
    by_hand = -(log(p[0]) + log(p[1])) / 2
    assert trigram_loss(train_ids, val_ids, 3, start_count=0.5) == pytest.approx(by_hand)


def test_trigrams_give_what_lesson_07_recorded():
    record = json.loads(
        (ROOT / "lessons" / "runs" / "07_cross_entropy_shapes_race.json").read_text()
    )
    manual = corpus("python_docs")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the manual of another Python is another text")
    for start, loss in record["results"]["0"]["trigrams"].items():
        counted = trigram_loss(manual.train, manual.val, manual.vocab, start_count=float(start))
        assert counted == pytest.approx(loss, abs=1e-5)


def test_a_text_without_a_trigram_is_refused():
    with pytest.raises(ValueError, match="three ids"):
        trigram_loss([0, 1], [0, 1, 0], 2)


def test_longer_contexts_are_counted_as_by_hand():
    train_ids, val_ids = [0, 1, 0, 1, 2], [0, 1, 0]
    alone = [(2 + 4 / 3) / (5 + 4), (2 + 4 / 3) / (5 + 4)]  # 1, 0: two of the five ids, each
    after_0 = (2 + 4 * alone[0]) / (2 + 4)  # twice there was a 0, and a 1 came each time
    after_1 = (1 + 4 * alone[1]) / (2 + 4)
    by_hand = -(log(after_0) + log(after_1)) / 2
    assert counted_loss(train_ids, val_ids, 3, context=1) == pytest.approx(by_hand)


@given(ids=st.lists(st.integers(0, 3), min_size=8, max_size=40), context=st.integers(0, 4))
@settings(deadline=None)
def test_what_counting_gives_is_a_distribution(ids, context):
    before = ids[-context:] if context else []
    nexts = [counted_loss(ids, [*before, i], 4, context=context) for i in range(4)]
    assert sum(np.exp(-np.array(nexts))) == pytest.approx(1)


def test_a_context_that_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="more than 4 ids"):
        counted_loss([0, 1, 0, 1], [0, 1, 0, 1, 0], 2, context=4)
    with pytest.raises(ValueError, match="64 bits"):
        counted_loss([0, 1, 0, 1], [0, 1, 0, 1], 2**40, context=1)
