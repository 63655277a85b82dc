"""The chunked loss beside the plain one: time and added memory, forward and backward, same inputs.

    python benchmarks/loss.py          prints a table, and keeps it with the date in results/

Each side of each run is a fresh process, in turn, at B*T = 4096, C = 768, V = 50304. Memory is the
peak of resident memory less what the inputs took; gradients count on both sides.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from companion.loss import chunked_next_token_loss, next_token_loss
from keeping import keep, this_machine

B, T, C, V = 4, 1024, 768, 50304
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return next_token_loss(hidden @ weight.T, targets)


def torchs(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """PyTorch's own fused form, with the options of its chunked path."""
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=512, chunking_method=None)
    return F.linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), options=options)


SIDES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": plain,
    "chunked": chunked_next_token_loss,
    "torch": torchs,
}


def measure(side: str, dtype: str, seed: int) -> dict[str, float]:
    """One side, in this process: seconds of the second pass, megabytes that both added."""
    torch.manual_seed(seed)
    hidden = torch.randn(B, T, C).to(DTYPES[dtype]).requires_grad_()
    weight = (0.02 * torch.randn(V, C)).to(DTYPES[dtype]).requires_grad_()
    targets = torch.randint(V, (B, T))
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))  # load the libraries
    before = resident()
    for _ in range(2):
        hidden.grad = weight.grad = None
        start = perf_counter()
        loss = SIDES[side](hidden, weight, targets)
        loss.backward()
        seconds = perf_counter() - start
    return {"seconds": seconds, "megabytes": peak() - before, "loss": loss.item()}


def resident() -> float:
    """Resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """The most that was resident so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def in_a_process(side: str, dtype: str, seed: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, dtype, str(seed)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(runs: int) -> dict:
    rows = {}
    for dtype in DTYPES:
        sides: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for seed in tqdm(range(runs), dtype, leave=False):
            for side, taken in sides.items():
                taken.append(in_a_process(side, dtype, seed))
        rows[dtype] = {side: summary(taken, sides["plain"]) for side, taken in sides.items()}
    return rows


def summary(taken: list[dict[str, float]], peer: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the runs; the ratios are medians of the ratios run by run."""

    def ratio(key: str) -> float:
        return median(ours[key] / theirs[key] for ours, theirs in zip(taken, peer))

    return {
        "seconds": round(median(run["seconds"] for run in taken), 2),
        "megabytes": round(median(run["megabytes"] for run in taken)),
        "time of plain": round(ratio("seconds"), 2),
        "memory of plain": round(ratio("megabytes"), 3),
        "loss": round(taken[0]["loss"], 4),
        "every run's seconds": [round(run["seconds"], 2) for run in taken],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "DTYPE", "SEED"))
    args = parser.parse_args()
    if args.one:
        side, dtype, seed = args.one
        print(json.dumps(measure(side, dtype, int(seed))))
        return
    record = {
        "command": f"python benchmarks/loss.py --runs {args.runs}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seeds": list(range(args.runs)),
        "sizes": {"B": B, "T": T, "C": C, "V": V},
        "medians": table(args.runs),
    }
    for dtype, sides in record["medians"].items():
        for side, row in sides.items():
            figures = "  ".join(f"{k} {v}" for k, v in row.items() if not isinstance(v, list))
            print(f"{dtype:<9} {side:<8} {figures}")
    keep("loss", record)


if __name__ == "__main__":
    main()
