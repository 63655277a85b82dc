"""Our GPT beside transformers' GPT2LMHeadModel: the time of a training step and of writing.

    python benchmarks/gpt.py           prints a table, and keeps it with the date in results/

Training is zero_grad, loss and backward, without dropout or optimizer; writing is 200 ids after 16,
the likeliest each time, cached. Both sides have the same weights (theirs saved, ours loaded from
it), dtype and ids; theirs uses sdpa, and its defaults. Each case of each run is a fresh
process, where the sides alternate, step by step, after one each to warm up. Figures are medians
over steps, then runs. A difference in loss over the case's tolerance, or in an id, is an error.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from itertools import product
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
import transformers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from companion.gpt import GPT
from keeping import keep, this_machine

SMALL = {"n_layer": 4, "n_embd": 128, "n_head": 4, "vocab_size": 65}
LARGE = {"n_layer": 6, "n_embd": 384, "n_head": 6, "vocab_size": 50304}


@dataclass(frozen=True)
class Case:
    """A model, and ids of a shape (B, T): to train on or, with `new`, to continue by so many."""

    model: dict[str, int]
    shape: tuple[int, int]
    steps: int
    new: int = 0
    block_size: int = 256
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-4


CASES = {
    "small": Case(SMALL, (12, 64), steps=60, block_size=64),
    "large-float32": Case(LARGE, (8, 256), steps=3),
    "large-bfloat16": Case(LARGE, (8, 256), steps=3, dtype=torch.bfloat16, tolerance=2e-2),
    "generate-small": Case(SMALL, (1, 16), steps=5, new=200, tolerance=0),
    "generate-large": Case(LARGE, (1, 16), steps=3, new=200, tolerance=0),
}


def both_models(case: Case) -> tuple[GPT, GPT2LMHeadModel]:
    """Ours and theirs, with the same weights."""
    settings = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    settings |= {"bos_token_id": None, "eos_token_id": None}  # writing should not stop early
    settings |= {"n_positions": case.block_size, "attn_implementation": "sdpa"}
    theirs = GPT2LMHeadModel(GPT2Config(**case.model, **settings))
    for weight in theirs.parameters():  # biases and norms too; as made, one id is written for ever
        weight.data += 0.1 * torch.randn_like(weight)
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = GPT.from_pretrained(folder)
    return ours.to(case.dtype).train(not case.new), theirs.to(case.dtype).train(not case.new)


def training(case: Case, ours: GPT, theirs: GPT2LMHeadModel) -> list[Callable[[], Tensor]]:
    ids, targets = torch.randint(case.model["vocab_size"], (2, *case.shape))
    scored = {"labels": targets, "shift_labels": targets}  # labels alone would be shifted again

    def step(model: nn.Module, loss_of: Callable[[], Tensor]) -> Tensor:
        model.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss.detach()

    return [
        lambda: step(ours, lambda: ours(ids, targets)),
        lambda: step(theirs, lambda: theirs(ids, **scored).loss),
    ]


def writing(case: Case, ours: GPT, theirs: GPT2LMHeadModel) -> list[Callable[[], Tensor]]:
    ids = torch.randint(case.model["vocab_size"], case.shape)
    greedily = {"do_sample": False, "use_cache": True, "attention_mask": torch.ones_like(ids)}
    return [
        lambda: ours.generate(ids, case.new, top_k=1),
        lambda: theirs.generate(ids, max_new_tokens=case.new, **greedily),
    ]


def measure(name: str, seed: int) -> dict[str, float]:
    """One case, in this process: median milliseconds of each side, and of ours / theirs."""
    case = CASES[name]
    torch.manual_seed(seed)
    sides = (writing if case.new else training)(case, *both_models(case))
    taken = []
    for _ in range(1 + case.steps):
        (ours, our_ms), (theirs, their_ms) = [timed(side) for side in sides]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=case.tolerance)
        taken.append({"our ms": our_ms, "their ms": their_ms, "ratio": our_ms / their_ms})
    return medians(taken[1:])


def timed(step: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = perf_counter()
    return step(), 1000 * (perf_counter() - start)


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(median(row[key] for row in rows), 3) for key in rows[0]}


def table(cases: list[str], runs: int) -> dict[str, dict]:
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for seed, name in tqdm(list(product(range(runs), cases)), "runs", leave=False):
        command = [sys.executable, __file__, "--one", name, str(seed)]
        taken[name].append(json.loads(subprocess.check_output(command)))
    return {name: {"medians": medians(rows), "every run": rows} for name, rows in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "SEED"))
    args = parser.parse_args()
    if args.one:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        print(json.dumps(measure(args.one[0], int(args.one[1]))))
        return
    record = {
        "command": f"python benchmarks/gpt.py --runs {args.runs} --cases {' '.join(args.cases)}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "versions": {"python": platform.python_version()}
        | {library.__name__: library.__version__ for library in (torch, transformers)},
        "seeds": list(range(args.runs)),
        "sizes": {name: asdict(CASES[name]) for name in args.cases},
        "cases": table(args.cases, args.runs),
    }
    for name, row in record["cases"].items():
        print(f"{name:<15}", *(f"{key} {figure:<10}" for key, figure in row["medians"].items()))
    keep("gpt", record)


if __name__ == "__main__":
    main()
