"""Our Bert beside transformers' BertModel with sdpa: the time of reading a batch.

    python benchmarks/bert.py          prints a table, and keeps it with the date in results/

BERT-base, 8 texts, no gradients. Both sides have the same weights (theirs saved, ours loaded from
it), dtype, ids and mask. In the full case all texts have 128 tokens and no mask is given; in the
mixed ones their lengths are spread evenly from 16 to 128, and the mask is. Each case of each run is
a fresh process, where the sides alternate, after one each to warm up. Figures are medians over
steps, then runs. A difference at a token of more than the case's tolerance is an error.
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
from torch import Tensor
from tqdm import tqdm
from transformers import BertConfig, BertModel

from companion.bert import Bert
from keeping import keep, this_machine

B, T = 8, 128
SHORTEST = 16


@dataclass(frozen=True)
class Case:
    """BERT-base in a dtype, on texts that fill the batch or have mixed lengths."""

    mixed: bool
    dtype: torch.dtype
    tolerance: float
    steps: int = 8


CASES = {
    "full-float32": Case(False, torch.float32, 1e-4),
    "full-bfloat16": Case(False, torch.bfloat16, 0.25),
    "mixed-float32": Case(True, torch.float32, 1e-4),
    "mixed-bfloat16": Case(True, torch.bfloat16, 0.25),
}


def both_models(dtype: torch.dtype) -> tuple[Bert, BertModel]:
    """Ours and theirs, with the same weights."""
    theirs = BertModel(BertConfig(attn_implementation="sdpa"))
    with torch.no_grad():
        for weight in theirs.parameters():  # biases and norms too
            weight += 0.02 * torch.randn_like(weight)
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = Bert.from_pretrained(folder)
    return ours.to(dtype), theirs.to(dtype).eval()


def batch(case: Case) -> tuple[Tensor, Tensor | None, Tensor]:
    """Ids, mask and segments."""
    ids, types = torch.randint(30522, (B, T)), torch.randint(2, (B, T))
    if not case.mixed:
        return ids, None, types
    lengths = torch.linspace(SHORTEST, T, B).round().long()[torch.randperm(B)]
    return ids, (torch.arange(T) < lengths[:, None]).long(), types


@torch.no_grad()
def measure(name: str, seed: int) -> dict[str, float]:
    """One case, in this process: median milliseconds of each side, and of ours / theirs."""
    case = CASES[name]
    torch.manual_seed(seed)
    our_model, their_model = both_models(case.dtype)
    ids, mask, types = batch(case)
    seen = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    taken = []
    for _ in range(1 + case.steps):
        ours, our_ms = timed(lambda: our_model(ids, mask, types))
        theirs, their_ms = timed(lambda: their_model(ids, mask, types))
        for mine, other in (
            (ours.last_hidden_state[seen], theirs.last_hidden_state[seen]),
            (ours.pooled, theirs.pooler_output),
        ):
            torch.testing.assert_close(mine, other, rtol=0, atol=case.tolerance)
        taken.append({"our ms": our_ms, "their ms": their_ms, "ratio": our_ms / their_ms})
    return medians(taken[1:])


def timed(step: Callable[[], object]) -> tuple[object, float]:
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
        "command": f"python benchmarks/bert.py --runs {args.runs} --cases {' '.join(args.cases)}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {library.__name__: library.__version__ for library in (torch, transformers)},
        "seeds": list(range(args.runs)),
        "sizes": {"B": B, "T": T, "shortest": SHORTEST},
        "settings": {name: asdict(CASES[name]) for name in args.cases},
        "cases": table(args.cases, args.runs),
    }
    for name, row in record["cases"].items():
        print(f"{name:<15}", *(f"{key} {figure:<10}" for key, figure in row["medians"].items()))
    keep("bert", record)


if __name__ == "__main__":
    main()
