"""GPT-2's attention, forward: heads in a loop, as an axis, and as an axis in a fused kernel.

    python benchmarks/heads.py         prints a table, and keeps it with the date in results/

One text of T tokens, on one core, without the last Linear. Each run has two fresh processes: one
with memory as it comes, one where glibc's malloc is told to keep what is freed (two variables, read
on Linux only). In a process the versions are called in a new random order each round, after one
call each to warm up. Figures are medians over the rounds: the processor's time, for other programs
disturb a clock, and page faults, one for each page of new memory that is touched. Outputs that
differ are an error.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from math import sqrt
from statistics import median
from time import process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from companion.heads import merge_heads, split_heads
from keeping import keep, this_machine

C, HEADS, TOKENS, ROUNDS = 768, 12, (256, 1024), 15
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 * 10**9)}
MEMORY = {"as it comes": {}, "kept": KEEPING}

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / sqrt(q.shape[-1])).softmax(dim=-1) @ v


def in_a_loop(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = zip(*(x.split(C // HEADS, dim=-1) for x in (q, k, v)))
    return torch.cat([attend(*head) for head in heads], dim=-1)


def as_an_axis(attention: Attention) -> Attention:
    def at_once(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return merge_heads(attention(*(split_heads(x, HEADS) for x in (q, k, v))))

    return at_once


VERSIONS = {
    "loop": in_a_loop,
    "axis": as_an_axis(attend),
    "fused": as_an_axis(F.scaled_dot_product_attention),
}


@torch.no_grad()
def measure(seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """In this process: milliseconds and page faults of a call, by T and version."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    order, c_attn = random.Random(seed), nn.Linear(C, 3 * C)
    figures = {}
    for T in TOKENS:
        x = torch.randn(1, T, C)
        outputs = [version(*c_attn(x).chunk(3, dim=-1)) for version in VERSIONS.values()]
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0])
        del outputs
        taken: dict[str, list[tuple[float, int]]] = {name: [] for name in VERSIONS}
        for _ in range(ROUNDS):
            for name in order.sample(list(VERSIONS), len(VERSIONS)):
                faults, start = page_faults(), process_time()
                VERSIONS[name](*c_attn(x).chunk(3, dim=-1))
                taken[name].append((process_time() - start, page_faults() - faults))
        figures[str(T)] = {
            name: {
                "ms": round(1000 * median(seconds for seconds, _ in calls), 3),
                "page faults": median(faults for _, faults in calls),
            }
            for name, calls in taken.items()
        }
    return figures


def page_faults() -> int:
    """How often this process has touched a page of memory that it had to be given first."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def in_a_process(memory: str, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    command = [sys.executable, __file__, "--one", str(seed)]
    variables = os.environ | MEMORY[memory]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", type=int, metavar="SEED")
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    runs: dict[str, list] = {memory: [] for memory in MEMORY}
    for seed in tqdm(range(args.runs), leave=False):
        for memory, taken in runs.items():
            taken.append(in_a_process(memory, seed))
    record = {
        "command": f"python benchmarks/heads.py --runs {args.runs}",
        "date": date.today().isoformat(),
        "machine": f"one of {this_machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seeds": list(range(args.runs)),
        "sizes": {"B": 1, "C": C, "nh": HEADS, "rounds": ROUNDS},
        "variables": KEEPING,
        "runs": runs,
    }
    for memory, taken in runs.items():
        for T in map(str, TOKENS):
            for name in VERSIONS:
                ratios = [run[T][name]["ms"] / run[T]["axis"]["ms"] for run in taken]
                faults = median(run[T][name]["page faults"] for run in taken)
                print(
                    f"memory {memory:<12} T {T:<5} {name:<6} time of axis "
                    f"{min(ratios):.2f} - {max(ratios):.2f}  page faults {faults:.0f}"
                )
    keep("heads", record)


if __name__ == "__main__":
    main()
