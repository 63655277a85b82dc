"""Our BPETokenizer beside Hugging Face's `tokenizers` and tiktoken: time to learn and to encode.

    python benchmarks/tokenizer.py     prints a table, and keeps it with the date in results/

Learning is to 1024 tokens, from one text, with GPT-2's pattern; tiktoken does not learn. Encoding
is one `encode` call of a tokenizer made the moment before, which has seen no text: ours, theirs and
tiktoken's have the same 1024 tokens. "letter" is a megabyte of one repeated letter, and half of it
says whether time grows with the square. Each case of each run is a fresh process, where the sides
take turns, after one turn each on a small text to warm up. Figures are medians over turns, then
runs; a ratio is ours / theirs of the same turn. Merges or ids that differ are an error. Memory
is the peak that tracemalloc sees while ours learns, over the bytes of the text.
"""

import argparse
import json
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tqdm import tqdm

from companion import assets
from companion.tokenizer import BPETokenizer
from companion.tokenizer.vocabulary import readable
from keeping import keep, this_machine

SIZE, LETTERS, TURNS = 1024, 10**6, 3
CASES = ["learn-taylorswift", "learn-tinyshakespeare", "encode-tinyshakespeare", "letter", "memory"]


def quiet(steps: Any, what: str) -> Any:
    return steps


def ours_from(text: str) -> BPETokenizer:
    return BPETokenizer.train(text, SIZE, bar=quiet)


def theirs_from(text: str) -> Tokenizer:
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": SIZE, "initial_alphabet": alphabet, "show_progress": False}
    theirs.train_from_iterator([text], trainers.BpeTrainer(**options))
    return theirs


def learned(tokenizer: BPETokenizer | Tokenizer) -> dict[str, int]:
    if isinstance(tokenizer, BPETokenizer):
        return {readable(token): id for token, id in tokenizer.ranks.items()}
    return tokenizer.get_vocab()


def timed(do: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = perf_counter()
    return do(*arguments), perf_counter() - start


def learning(text: str) -> list[dict[str, float]]:
    rows = []
    for some in (text[:20_000], *[text] * TURNS):
        ours, our_s = timed(ours_from, some)
        theirs, their_s = timed(theirs_from, some)
        assert learned(ours) == learned(theirs)
        rows.append({"ours": our_s, "tokenizers": their_s, "ours / tokenizers": our_s / their_s})
    return rows[1:]


def encoding(text: str) -> list[dict[str, float]]:
    source = assets.text("tinyshakespeare")
    learner, file = ours_from(source), theirs_from(source).to_str()
    rows = []
    for some in (text[:20_000], *[text] * TURNS):
        ours = BPETokenizer(learner.ranks, pattern=learner.pattern)  # fresh: nothing is known
        theirs, tik = Tokenizer.from_str(file), ours.to_tiktoken()
        our_ids, our_s = timed(ours.encode, some)
        their_ids, their_s = timed(theirs.encode, some)
        tik_ids, tik_s = timed(tik.encode, some)
        assert our_ids == their_ids.ids == tik_ids
        rows.append(
            {
                "ours": our_s,
                "tokenizers": their_s,
                "tiktoken": tik_s,
                "ours / tokenizers": our_s / their_s,
                "ours / tiktoken": our_s / tik_s,
            }
        )
    return rows[1:]


def letters() -> list[dict[str, float]]:
    rows = encoding("a" * LETTERS)
    halves = encoding("a" * (LETTERS // 2))
    return [row | {"whole / half": row["ours"] / half["ours"]} for row, half in zip(rows, halves)]


def memory(text: str) -> list[dict[str, float]]:
    ours_from(text[:20_000])
    tracemalloc.start()
    ours_from(text)
    peak = tracemalloc.get_traced_memory()[1]
    return [{"peak MB": peak / 1e6, "peak / text": peak / len(text.encode())}]


def measure(case: str) -> dict[str, float]:
    what, _, name = case.partition("-")
    if what == "letter":
        rows = letters()
    elif what == "memory":
        rows = memory(assets.text("tinyshakespeare"))
    else:
        rows = (learning if what == "learn" else encoding)(assets.text(name))
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
    libraries = ("tokenizers", "tiktoken", "regex")
    record = {
        "command": f"python benchmarks/tokenizer.py --runs {args.runs} "
        f"--cases {' '.join(args.cases)}",
        "date": date.today().isoformat(),
        "machine": this_machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in libraries},
        "seeds": "none: nothing is drawn by chance",
        "runs": args.runs,
        "turns": TURNS,
        "unit": "seconds",
        "cases": table(args.cases, args.runs),
    }
    for case, row in record["cases"].items():
        print(f"{case:<23}", *(f"{key} {figure:<9}" for key, figure in row["medians"].items()))
    keep("tokenizer", record)


if __name__ == "__main__":
    main()
