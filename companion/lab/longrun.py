"""A long run in a process of its own, under a bar; killed where the lesson asks for it."""

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from companion.lab.progress import progress
from companion.pretrain.__main__ import configured
from companion.pretrain.prepare import Prepare, prepare
from companion.pretrain.shards import shards_in
from companion.pretrain.watching import read_metrics

COURSE = Path(__file__).parents[2]


def shards(source: str, folder: Path, *, encoding: str = "chars") -> Path:
    """Make a folder of token shards of a text, the last tenth of it held out; say how large."""
    with contextlib.redirect_stderr(io.StringIO()):  # the bar
        prepare(Prepare(source, folder, encoding, val_share=0.1, processes=1))
    train, val = (sum(one.count for one in shards_in(folder, split)) for split in ("train", "val"))
    print(f"{train:,} tokens to train on, {val:,} held out")
    return folder


def pretrain(arguments: Sequence[str], *, kill_at: int | None = None) -> int:
    """Run `python -m companion.pretrain ARGUMENTS` to its end; return the steps it wrote down.

    With `kill_at` it gets SIGKILL as soon as it has written so many steps. The process never
    outlives the call. RuntimeError, with what it said last, where it ended otherwise.
    """
    config = configured(list(arguments))
    config.out.mkdir(parents=True, exist_ok=True)
    paths = [str(COURSE), *filter(None, [os.environ.get("PYTHONPATH")])]
    place = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    words = [sys.executable, "-m", "companion.pretrain", *arguments]
    said = config.out / "said.txt"
    with said.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=place)
        try:
            for step in progress(range(kill_at or config.steps), "training"):
                while process.poll() is None and steps_written(config.out) <= step:
                    time.sleep(0.02)
            if kill_at is None:
                process.wait()
        finally:
            process.kill()  # SIGKILL; nothing where it has ended
            process.wait()
    done = steps_written(config.out)
    if done < kill_at if kill_at else process.returncode != 0:
        last = said.read_text("utf-8", "replace").strip().splitlines()[-3:]
        raise RuntimeError("the run ended by itself: " + "\n".join(last))
    return done


def steps_written(out: Path) -> int:
    """How many steps the metrics of a run speak of."""
    return max((row["step"] + 1 for row in read_metrics(out / "metrics.jsonl")), default=0)
