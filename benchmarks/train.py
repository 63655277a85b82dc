"""A whole training step of our GPT beside transformers' GPT2LMHeadModel: time and peak memory.

    python benchmarks/train.py         prints a table, and keeps it with the date in results/

A step is forward, loss, backward, clipping at 1.0, fused AdamW and zero_grad, on the same batches,
from the same weights; theirs uses sdpa and its own loss. 6 layers, 384 channels, 256 tokens, 8
rows, 50,304 ids. bfloat16 is autocast's. "compiled" is our model through torch.compile. In each
run, a fresh process, all sides take turns, step by step, after two each to warm up; memory is
measured in a process for each side: its peak, less what it was before the model was made. Figures
are medians over steps, then runs. First losses that differ by more than rounding are an error.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
import transformers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from companion.gpt import GPT
from companion.optim import configure_optimizer
from companion.pretrain.machine import can_compile, has_fast_bfloat16
from keeping import keep, this_machine

SIZES = {"n_layer": 6, "n_head": 6, "n_embd": 384, "vocab_size": 50304}
B, T = 8, 256
SIDES = {
    "their float32": (False, torch.float32),
    "our float32": (True, torch.float32),
    "their bfloat16": (False, torch.bfloat16),
    "our bfloat16": (True, torch.bfloat16),
    "our bfloat16, compiled": (True, torch.bfloat16),
}
RATIOS = {  # the first's figure over the second's
    "tokens/s of their float32": ("their float32", "{}"),
    "time of their bfloat16": ("{}", "their bfloat16"),
}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


def model_of(ours: bool, folder: Path) -> nn.Module:
    """One side's model, with the weights that the folder keeps."""
    if ours:
        return GPT.from_pretrained(folder).train()
    return GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa").train()


def stepper(name: str, folder: Path) -> Callable[[Tensor, Tensor], float]:
    """A function that takes one step on ids and targets, and returns the loss."""
    ours, dtype = SIDES[name]
    model = model_of(ours, folder)
    forward = torch.compile(model) if "compiled" in name else model
    optimizer = configure_optimizer(model, lr=3e-4)

    def step(ids: Tensor, targets: Tensor) -> float:
        narrow = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
        with narrow:
            if ours:
                loss = forward(ids, targets)
            else:  # labels alone would be shifted again
                loss = forward(ids, labels=targets, shift_labels=targets).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def begin(folder: Path, seed: int) -> None:
    """Keep the weights that all sides start from."""
    torch.manual_seed(seed)
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    GPT2LMHeadModel(GPT2Config(**SIZES, **none, n_positions=T)).save_pretrained(folder)


def times(sides: list[str], steps: int, seed: int) -> dict[str, float]:
    """Median milliseconds of a step, by side."""
    with TemporaryDirectory() as folder:
        begin(Path(folder), seed)
        steppers = {name: stepper(name, Path(folder)) for name in sides}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for n in range(2 + steps):
        ids, targets = torch.randint(SIZES["vocab_size"], (2, B, T))
        losses = {}
        for name, step in steppers.items():
            start = perf_counter()
            losses[name] = step(ids, targets)
            taken[name].append(1000 * (perf_counter() - start))
        if n == 0:
            for name, loss in losses.items():
                off = abs(loss - losses["their float32"])
                assert off < TOLERANCE[SIDES[name][1]], f"{name} begins at {off} from theirs"
    return {name: median(ms[2:]) for name, ms in taken.items()}


def memory(name: str, seed: int) -> float:
    """Megabytes that a side's steps add to this process, at their peak."""
    with TemporaryDirectory() as folder:
        begin(Path(folder), seed)
        step = None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step = stepper(name, Path(folder))
    for _ in range(2):
        step(*torch.randint(SIZES["vocab_size"], (2, B, T)))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def in_a_process(*words: object) -> dict | float:
    return json.loads(subprocess.check_output([sys.executable, __file__, *map(str, words)]))


def table(sides: list[str], runs: int, steps: int) -> dict[str, dict[str, float]]:
    """Each side's figures, and how they stand to theirs."""
    every = [
        in_a_process("--times", *sides, "--steps", steps, "--seed", n) for n in tqdm(range(runs))
    ]
    peaks = {name: in_a_process("--memory", name) for name in tqdm(sides, "memory")}
    rows = {}
    for name in sides:
        row = {"ms": median(run[name] for run in every), "added MB": peaks[name]}
        if name.startswith("our"):
            for title, pair in RATIOS.items():
                top, under = (side.format(name) for side in pair)
                row[title] = median(run[top] / run[under] for run in every)
            dtype = name.split()[1].rstrip(",")
            row[f"memory of their {dtype}"] = peaks[name] / peaks[f"their {dtype}"]
        rows[name] = {title: round(figure, 3) for title, figure in row.items()}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", nargs="+", choices=SIDES)
    parser.add_argument("--memory", choices=SIDES)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.times:
        print(json.dumps(times(args.times, args.steps, args.seed)))
        return
    if args.memory:
        print(json.dumps(memory(args.memory, args.seed)))
        return
    cpu = torch.device("cpu")
    sides = [name for name in SIDES if "compiled" not in name or can_compile(cpu)]
    record = {
        "command": f"python benchmarks/train.py --runs {args.runs} --steps {args.steps}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "fast bfloat16": has_fast_bfloat16(cpu),
        "versions": {"python": platform.python_version()}
        | {library.__name__: library.__version__ for library in (torch, transformers)},
        "seeds": list(range(args.runs)),
        "sizes": SIZES | {"B": B, "T": T},
        "sides": table(sides, args.runs, args.steps),
    }
    for name, row in record["sides"].items():
        print(name, *(f"{title} {figure}" for title, figure in row.items()), sep="\n    ")
    keep("train", record)


if __name__ == "__main__":
    main()
