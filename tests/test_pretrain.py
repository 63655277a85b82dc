"""The long run: shards that are refused, tokens read once, and runs that end in the same bits."""

import ctypes
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.gpt import GPT, GPTConfig
from companion.parallel import Rank
from companion.pretrain.__main__ import configured, main
from companion.pretrain.checkpoints import Checkpoints
from companion.pretrain.config import PRESETS, Config
from companion.pretrain.curves import curves
from companion.pretrain.curves import main as curves_main
from companion.pretrain.encodings import Encoding
from companion.pretrain.hellaswag import items_in, score
from companion.pretrain.loader import ShardLoader
from companion.pretrain.loop import run
from companion.pretrain.machine import keep_memory
from companion.pretrain.prepare import Prepare, prepare
from companion.pretrain.shards import HEADER_BYTES, Shard, ShardError, shards_in, write_shard
from companion.pretrain.watching import read_metrics

ROOT = Path(__file__).parents[1]
SOAK = bool(os.environ.get("COMPANION_SOAK"))
TEXT = "".join(f"The {n}th line of a text that counts up to {n * n}.\n" for n in range(400))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of a text, in bytes; several, of different sizes."""
    folder = tmp_path_factory.mktemp("texts")
    for n, part in enumerate((TEXT[:9000], TEXT[9000:13001], TEXT[13001:])):
        (folder / f"{n}.txt").write_text(part)
    out = tmp_path_factory.mktemp("data")
    options = Prepare(str(folder), out, "bytes", shard_tokens=4000, val_share=0.0, processes=1)
    prepare(options)
    write_shard(out / "val_00000.tokens", np.frombuffer(TEXT[:2000].encode(), np.uint8), "bytes")
    return out


def small(data, out, **changes):
    """Six seconds' worth of nothing: a run of a few milliseconds a step."""
    config = Config(
        data=data, out=out, encoding="bytes", n_layer=2, n_head=2, n_embd=16, block_size=16,
        batch_tokens=8 * 16, micro_rows=4, steps=12, lr=1e-2, min_lr=1e-3, warmup=3, dropout=0.1,
        device="cpu", dtype="float32", compile="no", peak_tflops=1.0, eval_every=4,
        eval_tokens=512, sample_every=6, save_every=3, keep=2,
    )  # fmt: skip
    return replace(config, **changes)


def bits(out):
    """All that the last checkpoint holds, but the paths in its config."""
    kept = Checkpoints(out / "checkpoints", 1)
    folder = kept.path(kept.steps()[-1])
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "state.json"}
    state = json.loads((folder / "state.json").read_text())
    return files, state["step"], state["position"], state["val_loss"]


# --- shards


@pytest.fixture
def shard(tmp_path):
    return write_shard(tmp_path / "train_00000.tokens", np.arange(1000) % 300, "bytes")


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=300))
@settings(max_examples=30, deadline=None)
def test_a_shard_gives_back_its_ids(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("shard") / "train_00000.tokens"
    write_shard(path, np.array(ids), "an encoding")
    kept = Shard.open(path)
    assert kept.ids.tolist() == ids
    assert (kept.count, kept.encoding) == (len(ids), "an encoding")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(at=st.integers(0, HEADER_BYTES + 1999))
@settings(max_examples=60, deadline=None)
def test_a_shard_is_refused_by_name_whatever_byte_was_altered(tmp_path_factory, at):
    path = tmp_path_factory.mktemp("shard") / "train_00000.tokens"
    write_shard(path, np.arange(1000) % 300, "bytes")
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1
    path.write_bytes(damaged)
    padding = 84 + 32 <= at < HEADER_BYTES  # means nothing, and holds zeros
    if padding:
        return
    with pytest.raises(ShardError, match="train_00000"):
        Shard.open(path)


@pytest.mark.parametrize("size", [0, 100, HEADER_BYTES, HEADER_BYTES + 1999, HEADER_BYTES + 2002])
def test_a_shard_of_another_length_is_refused_by_name(shard, size):
    whole = shard.path.read_bytes() + b"\0\0"
    shard.path.write_bytes(whole[:size])
    with pytest.raises(ShardError, match="train_00000"):
        Shard.open(shard.path)


def test_shards_of_two_encodings_are_refused_by_name(shard):
    write_shard(shard.path.with_name("train_00001.tokens"), np.arange(10), "gpt2")
    with pytest.raises(ShardError, match=r"train_00001.*gpt2.*bytes"):
        shards_in(shard.path.parent, "train")


@pytest.mark.parametrize("ids", [[], [[1]], [70_000], [-1], [0.5]])
def test_what_is_no_row_of_ids_makes_no_shard(tmp_path, ids):
    with pytest.raises(ValueError, match="ids"):
        write_shard(tmp_path / "train_00000.tokens", np.array(ids), "bytes")
    assert not list(tmp_path.iterdir())


# --- who reads what


def counting_shards(folder: Path, sizes: list[int]) -> list[Shard]:
    """Shards of these sizes whose ids count on from 0, so that an id is its own place."""
    ids = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return [write_shard(folder / f"train_{n:05}.tokens", x, "bytes") for n, x in enumerate(ids)]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    B=st.integers(1, 3),
    T=st.integers(1, 7),
    world=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_in_an_epoch_all_processes_together_read_each_token_once(
    tmp_path_factory, sizes, B, T, world
):
    """And what follows each, over shards of any sizes, and on into the next epoch."""
    total = sum(sizes)
    if total < T + 1:
        return
    shards = counting_shards(tmp_path_factory.mktemp("shards"), sizes)
    ranks = [ShardLoader(shards, B, T, rank=r, world=world) for r in range(world)]
    read, follow = [], []
    while len(read) < 2 * total:
        for loader in ranks:
            ids, targets = loader.next_batch()
            assert ids.shape == targets.shape == (B, T)
            read += ids.flatten().tolist()
            follow += targets.flatten().tolist()
    assert read == [n % total for n in range(len(read))]
    assert follow == [(n + 1) % total for n in range(len(read))]
    assert {loader.position for loader in ranks} == {len(read)}


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    B=st.integers(1, 3),
    T=st.integers(1, 7),
    world=st.integers(1, 3),
    micro=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
def test_after_every_step_no_token_was_read_twice_more_often_than_another(
    tmp_path_factory, sizes, B, T, world, micro
):
    """With a reader for each row of a step, wherever the readers' ways and the shards end."""
    total = sum(sizes)
    if total < T + 1:
        return
    shards = counting_shards(tmp_path_factory.mktemp("shards"), sizes)
    lanes = micro * world * B
    ranks = [ShardLoader(shards, B, T, rank=r, world=world, lanes=lanes) for r in range(world)]
    counts = np.zeros(total, dtype=int)
    begun = []
    while counts.min() < 3:
        for loader in ranks * micro:
            ids, targets = loader.next_batch()
            assert torch.equal(targets, (ids + 1) % total)
            assert torch.equal((ids[:, 1:] - ids[:, :-1]) % total, torch.ones(B, T - 1))
            np.add.at(counts, ids.flatten().numpy(), 1)
            begun += ids[:, 0].tolist()
        assert counts.max() - counts.min() <= 1
    assert sorted(begun[:lanes]) == [n * total // lanes for n in range(lanes)]


@pytest.mark.parametrize("lanes", [1, 4, 12])
def test_a_loader_goes_on_from_a_position_with_another_number_of_processes(tmp_path, lanes):
    shard = write_shard(tmp_path / "train_00000.tokens", np.arange(500), "bytes")
    one = ShardLoader([shard], 4, 5, lanes=lanes)
    one.next_batch()
    first, second = (ShardLoader([shard], 2, 5, rank=r, world=2, lanes=lanes) for r in range(2))
    first.position = second.position = one.position
    both = torch.cat([first.next_batch()[0], second.next_batch()[0]])
    assert torch.equal(both, one.next_batch()[0])


# --- preparing


def test_preparing_goes_on_where_it_was_stopped_to_the_same_files(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(30):
        (texts / f"{n:02}.txt").write_text(f"text {n} " * (n + 1))
    options = Prepare(str(texts), tmp_path / "whole", "bytes", 500, val_share=0.2, processes=1)
    prepare(options)
    for stop in (7, 11, None):
        prepare(replace(options, out=tmp_path / "parts", limit=stop))
    join = lambda folder, split: np.concatenate([s.ids for s in shards_in(folder, split)])  # noqa: E731
    for split in ("train", "val"):
        assert np.array_equal(join(tmp_path / "whole", split), join(tmp_path / "parts", split))
    before = {p: p.read_bytes() for p in (tmp_path / "parts").iterdir()}
    prepare(replace(options, out=tmp_path / "parts"))
    assert {p: p.read_bytes() for p in (tmp_path / "parts").iterdir()} == before


def test_preparing_by_two_processes_gives_the_same_shards(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(40):
        (texts / f"{n:02}.txt").write_text(f"text {n} " * (n + 1))
    for processes in (1, 2):
        prepare(Prepare(str(texts), tmp_path / str(processes), "bytes", 900, processes=processes))
    files = [{p.name: p.read_bytes() for p in (tmp_path / n).glob("*.tokens")} for n in "12"]
    assert files[0] == files[1]
    assert len(files[0]) > 3


def test_a_hugging_face_dataset_is_read_row_by_row(tmp_path):
    """By the library that reads those on the hub, here from a folder in the same form."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = "".join(json.dumps({"text": f"text {n}", "id": n}) + "\n" for n in range(9))
    (folder / "train.jsonl").write_text(rows)
    options = Prepare(f"hf:{folder}", tmp_path / "out", "bytes", val_share=0.0, processes=1)
    prepare(options)
    [shard] = shards_in(options.out, "train")
    assert bytes(shard.ids.astype("u1")) == b"".join(b"text %d" % n for n in range(9))
    with pytest.raises(ValueError, match=r"no column 'body'; it has text, id"):
        prepare(replace(options, out=tmp_path / "body", column="body"))
    with pytest.raises(ValueError, match="streamed"):
        prepare(replace(options, out=tmp_path / "chars", encoding="chars"))


def test_other_options_do_not_go_on_in_the_same_folder(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    options = Prepare(str(tmp_path / "a.txt"), tmp_path / "out", "bytes", processes=1)
    prepare(options)
    with pytest.raises(ValueError, match="shard_tokens"):
        prepare(replace(options, shard_tokens=77))


@pytest.mark.parametrize("name", ["bytes", "chars", "learn:300"])
def test_an_encoding_comes_back_from_its_folder(tmp_path, name):
    made = Encoding.named(name, TEXT)
    made.save(tmp_path)
    kept = Encoding.load(tmp_path)
    assert (kept.name, kept.vocab_size, kept.end) == (made.name, made.vocab_size, made.end)
    assert list(kept.encode(TEXT)) == list(made.encode(TEXT))
    assert kept.decode(list(kept.encode(TEXT))) == TEXT
    assert Encoding.named(name, Path(__file__).read_text()).name != made.name or name == "bytes"


# --- a run, and one that is stopped


@pytest.fixture(scope="module")
def never_stopped(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)  # as many as the runs that it is compared with
    loss = run(small(data, out))
    return out, loss


def test_a_run_learns_keeps_the_last_and_the_best_and_says_so(never_stopped):
    out, loss = never_stopped
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(12))
    assert rows[-1]["val_loss"] == loss < rows[0]["loss"] - 0.5
    kept = Checkpoints(out / "checkpoints", 2)
    assert kept.steps() == [9, 12]
    assert kept.best() == (12, loss)


def test_stopped_after_any_checkpoint_it_ends_in_the_same_bits(never_stopped, data, tmp_path):
    """By SIGTERM, which saves and returns None."""
    config = small(data, tmp_path / "run", save_every=100)
    sent = []

    def after(steps, module=sys.modules["companion.pretrain.loop"]):
        def step(self, *args):
            answer = one_step(self, *args)
            if self.step + 1 in steps and self.step + 1 not in sent:
                sent.append(self.step + 1)
                os.kill(os.getpid(), signal.SIGTERM)
            return answer

        one_step, module.Run._one_step = module.Run._one_step, step
        return one_step, module

    one_step, module = after({1, 5, 8})
    try:
        ends = [run(config) for _ in range(4)]
    finally:
        module.Run._one_step = one_step
    assert ends[:3] == [None] * 3
    assert bits(tmp_path / "run") == bits(never_stopped[0])
    steps = [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert steps == list(range(12))


def _quietly(config):
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    torch.set_num_threads(1)
    run(config)


def test_killed_at_random_moments_it_ends_in_the_same_bits(never_stopped, data, tmp_path):
    """SIGKILL, also while a checkpoint is being written: every step writes one here."""
    config = small(data, tmp_path / "run", save_every=1)
    context, kills, seconds = get_context("forkserver"), 20 if SOAK else 4, 1.0
    context.set_forkserver_preload(["companion.pretrain.loop"])
    moments, killed = random.Random(0), 0
    while killed < kills:
        process = context.Process(target=_quietly, args=(config,))
        start = time.perf_counter()
        process.start()
        process.join(moments.uniform(0.2, 1.0) * seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        else:  # it came to its end before
            assert process.exitcode == 0
            seconds = time.perf_counter() - start
            if killed < kills:
                subprocess.run(["rm", "-r", str(tmp_path / "run")], check=True)
        process.join()
    run(config)
    assert bits(tmp_path / "run")[0] == bits(never_stopped[0])[0]


@pytest.mark.parametrize(("steps", "compiled"), [(499, False), (500, True)])
def test_a_run_is_compiled_or_not_wherever_it_goes_on(data, tmp_path, monkeypatch, steps, compiled):
    """Compiled, a step is rounded otherwise: near its end a run would leave its own way."""
    module = sys.modules["companion.pretrain.loop"]
    seen = []
    monkeypatch.setattr(module, "can_compile", lambda _: True)
    monkeypatch.setattr(module.torch, "compile", lambda model: seen.append(model) or model)
    config = small(data, tmp_path / "run", steps=steps, compile="auto")
    first = module.Run(config, Rank())
    first._one_step(stop=False)
    first.step = steps - 1
    first._save(None)
    again = module.Run(config, Rank())
    assert again.step == steps - 1
    assert seen == [first.model, again.model] * compiled


def test_what_cannot_be_fetched_ends_a_run_before_its_first_step(data, tmp_path, monkeypatch):
    def no_network(_):
        raise OSError("no way to the network")

    monkeypatch.setattr("companion.pretrain.loop.validation_set", no_network)
    config = small(data, tmp_path / "run", hellaswag_every=6)
    with pytest.raises(OSError, match="no way"):
        run(config)
    assert not config.out.exists()


def test_measuring_the_machine_does_not_change_the_bits(data, tmp_path, monkeypatch):
    """A run with dropout, that draws from the generator whose state a checkpoint keeps."""
    monkeypatch.setattr(
        "companion.pretrain.loop.measured_peak_flops", lambda *_: torch.rand(3).sum().item() + 1.0
    )
    whole, again = (small(data, tmp_path / name, peak_tflops=0.0) for name in ("whole", "again"))
    run(whole)
    shutil.copytree(whole.out, again.out)
    shutil.rmtree(again.out / "checkpoints/step_00000012")
    run(again)
    assert bits(again.out)[0] == bits(whole.out)[0]


def test_another_config_does_not_go_on_and_the_checkpoint_stays(never_stopped, data, tmp_path):
    out, _ = never_stopped
    before = bits(out)
    with pytest.raises(ValueError, match=r"step_00000012.*\n.*lr: 0.01, now 0.02"):
        run(small(data, out, lr=2e-2))
    assert bits(out) == before


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(data, tmp_path):
    with pytest.raises(
        ValueError, match=r"loss is (nan|inf) at step \d+; the first of its \d+ rows begins"
    ):
        run(small(data, tmp_path, lr=1e8, min_lr=0.0, warmup=0, clip=1e9, dropout=0.0))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused_by_name(never_stopped, data, tmp_path, file):
    out = tmp_path / "run"
    subprocess.run(["cp", "-r", str(never_stopped[0]), str(out)], check=True)
    path = out / "checkpoints" / "step_00000012" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="step_00000012"):
        run(small(data, out))


def test_a_disk_that_is_full_leaves_the_last_checkpoint_whole(
    never_stopped, data, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    run(small(data, out, steps=12, save_every=3)) if not out.exists() else None
    before = bits(out)
    module = sys.modules["companion.pretrain.checkpoints"]

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    for path in (out / "checkpoints").glob("step_00000012"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    kept = bits(out)
    with pytest.raises(OSError, match="No space left"):
        run(small(data, out))
    assert bits(out) == kept != before
    assert not list((out / "checkpoints").glob(".saving-*"))


def _as_nobody(config, said):
    """Run as a user who may not write there, whoever runs the tests."""
    if os.geteuid() == 0:
        os.setuid(65534)
    torch.set_num_threads(1)
    try:
        run(config)
    except OSError as error:
        said.put(f"{type(error).__name__}: {error}")


def test_a_folder_that_cannot_be_written_is_named_and_the_checkpoint_stays(never_stopped, data):
    with TemporaryDirectory() as folder:
        place = Path(folder)
        out, shards = place / "run", place / "data"
        subprocess.run(["cp", "-r", str(never_stopped[0]), str(out)], check=True)
        subprocess.run(["cp", "-r", str(data), str(shards)], check=True)
        subprocess.run(["rm", "-r", str(out / "checkpoints/step_00000012")], check=True)
        before = bits(out)
        subprocess.run(["chmod", "-R", "a+rX,a-w", folder], check=True)
        try:
            context = get_context("fork")
            said = context.Queue()
            process = context.Process(target=_as_nobody, args=(small(shards, out), said))
            process.start()
            error = said.get(timeout=60)
            process.join()
            assert "PermissionError" in error
            assert str(out) in error
            assert bits(out) == before
        finally:
            subprocess.run(["chmod", "-R", "u+w", folder], check=True)


def test_a_run_that_is_over_says_so_and_changes_nothing(never_stopped, data, capsys):
    before = bits(never_stopped[0])
    assert run(small(data, never_stopped[0])) is None
    assert "nothing is left to do" in capsys.readouterr().out
    assert bits(never_stopped[0]) == before


def test_curves_are_drawn_of_what_a_run_wrote(never_stopped, tmp_path, capsys):
    out, loss = never_stopped
    measured = curves(out)
    assert measured["loss"][:, 0].tolist() == list(range(1, 13))
    assert measured["val_loss"][-1].tolist() == [12, loss]
    assert curves_main([str(out), "--out", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert curves_main([str(tmp_path), "--out", str(tmp_path / "none.png")]) == 1
    assert "metrics.jsonl" in capsys.readouterr().err


def test_missing_shards_and_folders_end_with_one_line(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none"), "--source", ""]) == 1
    said = capsys.readouterr().err
    assert "none" in said
    assert "Traceback" not in said


def test_every_field_of_a_preset_can_be_given(capsys):
    assert configured(["--preset", "gpt2-124m"]) == PRESETS["gpt2-124m"]
    assert configured(["--preset", "evening", "--lr", "0.5", "--n-layer", "3"]) == replace(
        PRESETS["evening"], lr=0.5, n_layer=3
    )
    with pytest.raises(SystemExit):
        configured(["--help"])
    said = capsys.readouterr().out
    assert all(name.replace("_", "-") in said for name in Config.__dataclass_fields__)


# --- many processes


def _torchrun(config, processes, extra=()):
    """The command that the README gives, on this machine."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    words += [str(processes), "-m", "companion.pretrain"]
    for name, value in config.as_dict().items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    place = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*words, *extra], env=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_end_where_one_does_for_the_same_tokens(data, tmp_path):
    config = small(data, tmp_path / "two", dropout=0.0, source="none")
    process = _torchrun(config, 2)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    one = small(data, tmp_path / "one", dropout=0.0, source="none")
    run(one)
    losses = [
        [row["loss"] for row in read_metrics(c.out / "metrics.jsonl") if "loss" in row]
        for c in (config, one)
    ]
    torch.testing.assert_close(*map(torch.tensor, losses), atol=1e-5, rtol=1e-5)


def _one_of_two(config, rank, port):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    _quietly(config)


def _both(context, config):
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [context.Process(target=_one_of_two, args=(config, rank, port)) for rank in range(2)]
    for process in pair:
        process.start()
    return pair


def test_two_processes_killed_at_random_moments_end_in_the_same_bits(data, tmp_path):
    """One SIGKILL each, the second process a little after the first."""
    context, kills = get_context("forkserver"), 20 if SOAK else 2
    context.set_forkserver_preload(["companion.pretrain.loop"])
    config = small(data, tmp_path / "stopped", save_every=1)
    whole = replace(config, out=tmp_path / "whole")
    start = time.perf_counter()
    for process in _both(context, whole):
        process.join(120)
        assert process.exitcode == 0
    seconds, moments, killed = time.perf_counter() - start, random.Random(1), 0
    while killed < kills:
        pair = _both(context, config)
        first = moments.randrange(2)
        pair[first].join(moments.uniform(0.3, 1.0) * seconds)
        was_running = pair[first].exitcode is None
        for process in (pair[first], pair[1 - first]):
            process.kill()
            process.join()
            time.sleep(moments.uniform(0, 0.02))
        killed += was_running
        if not was_running and killed < kills:
            subprocess.run(["rm", "-r", str(config.out)], check=True)
    for process in _both(context, config):
        process.join(120)
        assert process.exitcode == 0
    assert bits(config.out)[0] == bits(whole.out)[0]


def test_a_process_that_dies_ends_the_run_with_its_traceback(data, tmp_path):
    config = small(data, tmp_path / "run", dropout=0.0, source="none", steps=100_000, warmup=0)
    process = _torchrun(config, 2)
    while not (tmp_path / "run" / "checkpoints").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    start = time.perf_counter()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert time.perf_counter() - start < 30
    assert process.returncode != 0
    assert "Signal 9" in said


# --- HellaSwag, on a made set


def _plainly(model, item, encode):
    """Each ending by itself, token by token: sums and means."""
    sums, means = [], []
    for ending in item.endings:
        ids, start = list(encode(item.context)), len(encode(item.context))
        ids += list(encode(f" {ending}"))
        losses = [
            -model(torch.tensor([ids[:t]]))[0, -1].log_softmax(-1)[ids[t]].item()
            for t in range(start, len(ids))
        ]
        sums.append(sum(losses))
        means.append(sum(losses) / len(losses))
    return sums.index(min(sums)), means.index(min(means))


def test_hellaswag_scores_as_a_plain_loop_does(tmp_path):
    torch.manual_seed(0)
    model = GPT(GPTConfig(256, 64, 2, 2, 16)).eval()
    words = ["a", "bb ccc", "dddd e f", "gg", "h iii jjjj kk", "l"]
    draw = random.Random(1)
    rows = [
        {"ctx": " ".join(draw.choices(words, k=3)), "label": draw.randrange(4),
         "endings": [" ".join(draw.choices(words, k=draw.randint(1, 3))) for _ in range(4)]}
        for _ in range(40)
    ]  # fmt: skip
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, encode = items_in(path), Encoding.named("bytes").encode
    chosen = [_plainly(model, item, encode) for item in items]
    got = score(model, items, encode, block_size=64)
    assert got.acc == sum(c[0] == i.right for c, i in zip(chosen, items)) / 40
    assert got.acc_norm == sum(c[1] == i.right for c, i in zip(chosen, items)) / 40
    assert any(a != b for a, b in chosen)  # else the two scores were not told apart


def test_a_line_that_is_no_item_is_named(tmp_path):
    path = tmp_path / "made.jsonl"
    path.write_text('{"ctx": "a", "endings": ["b"], "label": 0}\n{"ctx": "a"}\n')
    with pytest.raises(ValueError, match="line 2"):
        items_in(path)


FAULTS = """
import resource, sys, torch
from companion.pretrain.machine import keep_memory
assert sys.argv[1] == "as it is" or keep_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for n in range(6):
    before = faults()
    torch.ones(24, 2**20) + 1  # 96 MiB, twice
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_kept_memory_is_used_again_without_the_kernel():
    faults = {}
    for name in ("as it is", "kept"):
        out = subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        faults[name] = int(out.stdout)
    assert faults["as it is"] > 90  # pages of 4 KiB, or of 2 MiB where the kernel gives those
    assert faults["kept"] < 10


def test_where_there_is_no_glibc_memory_is_as_it_was(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_memory() is False


def test_many_processes_do_not_prepare_the_same_folder(tmp_path, monkeypatch, capsys):
    """Each would write over the others: they are told the command instead."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")]) == 1
    assert f"companion.pretrain.prepare --source tinyshakespeare --out {tmp_path}" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
