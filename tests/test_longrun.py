"""The lesson's long run: it ends with its call, killed or not, and says why it failed."""

import os
import signal

import numpy as np
import pytest

from companion.lab import longrun
from companion.lab.longrun import pretrain, steps_written
from companion.pretrain.encodings import Encoding
from companion.pretrain.shards import write_shard


@pytest.fixture
def arguments(tmp_path):
    """A run that takes a moment: 40 steps of a tiny model on bytes."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "val"):
        write_shard(data / f"{split}_00000.tokens", np.arange(3000) % 7, "bytes")
    Encoding.named("bytes").save(data)
    return [
        *("--data", str(data), "--out", str(tmp_path / "run"), "--encoding", "bytes"),
        *("--n-layer", "1", "--n-embd", "16", "--block-size", "16", "--batch-tokens", "64"),
        *("--steps", "40", "--warmup", "2", "--save-every", "10", "--eval-every", "20"),
        *("--eval-tokens", "64", "--sample-every", "0", "--peak-tflops", "1"),
    ]


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    processes, popen = [], longrun.subprocess.Popen
    monkeypatch.setattr(
        longrun.subprocess,
        "Popen",
        lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1],
    )
    return processes


def test_a_run_that_was_killed_goes_on_by_the_same_words(arguments, started, tmp_path):
    done = pretrain(arguments, kill_at=15)
    assert 15 <= done <= 40
    assert started[0].returncode == -signal.SIGKILL
    assert pretrain(arguments) == 40 == steps_written(tmp_path / "run")
    assert all(process.poll() is not None for process in started)


def test_a_run_that_fails_is_told_apart_from_one_that_was_killed(arguments, started):
    with pytest.raises(RuntimeError, match="vocab_size"):
        pretrain([*arguments, "--vocab-size", "64"], kill_at=15)
    assert started[0].poll() is not None


def test_a_run_whose_caller_is_interrupted_is_not_left_behind(arguments, started, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(longrun, "steps_written", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(arguments)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
