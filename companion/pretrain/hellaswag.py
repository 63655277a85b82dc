"""HellaSwag: which of four endings fits (Zellers et al. 2019); by which the model finds likeliest.

    acc        the ending whose tokens together are likeliest
    acc_norm   the ending whose tokens are likeliest on average, so that length does not count

The validation set is 10,042 items, fetched once from the authors' repository; a quarter is chance.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.parallel import Rank, all_sum
from companion.probing import evaluating, logits_of

__all__ = ["Item", "Score", "ending_losses", "items_in", "score", "validation_set"]

URL = "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl"


@dataclass(frozen=True)
class Item:
    """A context, endings for it, and which of them is the right one."""

    context: str
    endings: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Score:
    """Shares of `items` that were answered rightly, 0 to 1."""

    acc: float
    acc_norm: float
    items: int


def validation_set(folder: Path) -> Path:
    """The file of validation items, fetched into a folder where it is not there yet."""
    return Path(pooch.retrieve(URL, known_hash=None, fname="hellaswag_val.jsonl", path=folder))


def items_in(path: Path) -> list[Item]:
    """Items of a file of JSON lines. ValueError, with the line, for one that is no item."""
    items = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            item = Item(row["ctx"], tuple(row["endings"]), int(row["label"]))
            if not 0 <= item.right < len(item.endings):
                raise ValueError(f"label {item.right} of {len(item.endings)} endings")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no HellaSwag item: {error!r}") from error
        items.append(item)
    return items


@torch.no_grad()
def ending_losses(
    model: nn.Module, context: Sequence[int], endings: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, "endings"], Int[Tensor, "endings"]]:
    """Of each ending, given the context: the loss of its tokens added up, in nats; their number.

    ValueError for no context or an empty ending, which nothing predicts.
    """
    if not context or not all(endings):
        raise ValueError("an item needs a context and endings of one token or more")
    device = next(model.parameters()).device
    longest = len(context) + max(map(len, endings))
    ids = torch.zeros(len(endings), longest, dtype=torch.long, device=device)
    ends = torch.zeros_like(ids, dtype=torch.bool)
    for row, ending in enumerate(endings):
        whole = torch.tensor([*context, *ending])
        ids[row, : len(whole)] = whole.to(device)
        ends[row, len(context) : len(whole)] = True
    logits = logits_of(model, ids)[:, :-1]  # (endings, T - 1, V)
    losses = F.cross_entropy(logits.float().mT, ids[:, 1:], reduction="none")  # (endings, T - 1)
    return (losses * ends[:, 1:]).sum(1), ends.sum(1)


def score(
    model: nn.Module,
    items: Iterable[Item],
    encode: Callable[[str], Sequence[int]],
    *,
    block_size: int,
    rank: Rank | None = None,
) -> Score:
    """Both accuracies over the items, shared out among the processes.

    Of a context too long for block_size the beginning is left out. ValueError for no items.
    """
    rank, items = rank or Rank(), list(items)
    if not items:
        raise ValueError("there are no items to score")
    right = torch.zeros(2, dtype=torch.float64, device=next(model.parameters()).device)
    with evaluating(model):
        for item in items[rank.rank :: rank.world]:
            endings = [list(encode(f" {ending}")) for ending in item.endings]
            room = block_size - max(map(len, endings))
            context = list(encode(item.context))[-max(room, 1) :]
            total, tokens = ending_losses(model, context, endings)
            for n, losses in enumerate((total, total / tokens)):
                right[n] += float(losses.argmin().item() == item.right)
    acc, acc_norm = (all_sum(right) / len(items)).tolist()
    return Score(acc, acc_norm, len(items))
