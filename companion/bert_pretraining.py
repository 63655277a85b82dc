"""BERT's two tasks, trained together: masked words, and whether a text follows."""

# Exported from lessons/23_bert_pretraining.md: edit that, then run `make lessons`.

__all__ = ["Judged", "Pairs", "cut_pairs", "hide_words", "judge", "pretrain", "widen_"]

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.bert_heads import BertForPreTraining
from companion.bert_inputs import IGNORED, mask_tokens
from companion.optim import configure_optimizer, lr_at
from companion.wordpiece import WordPieceTokenizer


class Pairs(NamedTuple):
    """[CLS] first [SEP] second [SEP]; labels are 0 where the second follows, else 1."""

    ids: Int[Tensor, "N T"]
    labels: Int[Tensor, "N"]

    @property
    def types(self) -> Int[Tensor, "N T"]:
        """0 for [CLS], the first text and its [SEP], 1 for the rest."""
        half = self.ids.shape[1] // 2 + 1
        return (torch.arange(self.ids.shape[1]) >= half).long().expand_as(self.ids)


def cut_pairs(
    documents: Sequence[Int[Tensor, "_"]],
    length: int,
    tokenizer: WordPieceTokenizer,
    generator: torch.Generator | None = None,
) -> Pairs:
    """Passages of `length` tokens, each with the next or, by a coin, a stranger.

    A document is cut from a random place on; one too short for two is left out. The
    strangers are the next passages of those pairs that lost theirs, exchanged so that
    each comes from another document: a passage is second in one pair at most, and as
    likely to follow as not. ValueError where one document has over a quarter of the
    passages to exchange, as it may where documents are few.
    """

    def below(n: int, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.randint(n, shape, generator=generator)

    rows = [torch.zeros(0, 2 * length, dtype=torch.long)]
    for document in documents:
        if len(document) >= 2 * length:
            start = int(below(length)) if len(document) >= 3 * length else 0
            passages = document[start:].unfold(0, length, length)  # (n, length)
            rows.append(torch.cat([passages[:-1], passages[1:]], dim=1))
    both = torch.cat(rows)  # (N, 2 * length): each passage and the next
    sizes = torch.tensor([len(row) for row in rows])
    owner = torch.arange(len(rows)).repeat_interleave(sizes)  # (N,)
    labels = below(2, (len(both),))
    lost = labels.nonzero()[:, 0]
    most = int(owner[lost].bincount(minlength=1).max())
    if not 0 < 4 * most <= len(lost):
        raise ValueError(f"one document has {most} of {len(lost)} passages to exchange")
    source = lost[torch.randperm(len(lost), generator=generator)]
    while (own := (owner[source] == owner[lost]).nonzero()[:, 0]).numel():
        for n, m in zip(own.tolist(), below(len(lost), own.shape).tolist()):
            source[[n, m]] = source[[m, n]]
    both[lost, length:] = both[source, length:]
    cls, sep = (torch.full((len(both), 1), n) for n in (tokenizer.cls_id, tokenizer.sep_id))
    first, second = both.split(length, dim=1)
    return Pairs(torch.cat([cls, first, sep, second, sep], dim=1), labels)


def pretrain(
    model: BertForPreTraining,
    documents: Sequence[Int[Tensor, "_"]],
    tokenizer: WordPieceTokenizer,
    *,
    steps: int,
    lr: float,
    seed: int = 0,
    length: int = 24,
    batch: int = 32,
    every: int = 250,
    p: float = 0.15,
    watch: Callable[[BertForPreTraining], Any] | None = None,
) -> list[tuple[int, Any]]:
    """Train on both tasks; what `watch(model)` gave each `every` steps and at the end.

    New pairs are cut each time all were seen, and each batch is masked anew, each word
    with probability `p`. The rate rises for a twentieth of the steps and
    falls to nothing, on half a cosine.
    """
    order = torch.Generator().manual_seed(seed)
    optimizer = configure_optimizer(model, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    watched, step = [], 0
    while step < steps:
        pairs = cut_pairs(documents, length, tokenizer, order)
        rows = torch.randperm(len(pairs.labels), generator=order).split(batch)
        for row in rows[: steps - step]:
            inputs, labels = hide_words(pairs.ids[row], tokenizer, order, p)
            loss = model(inputs, None, pairs.types[row], labels, pairs.labels[row])
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, steps=steps, lr=lr, warmup=steps // 20)
            optimizer.step()
            step += 1
            if watch and (step % every == 0 or step == steps):
                watched.append((step, watch(model)))
    return watched


def hide_words(
    ids: Int[Tensor, "B T"],
    tokenizer: WordPieceTokenizer,
    generator: torch.Generator,
    p: float = 0.15,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """`mask_tokens` with a tokenizer's own numbers."""
    return mask_tokens(
        ids,
        mask_id=tokenizer.mask_id,
        vocab_size=tokenizer.vocab_size,
        special_ids=tokenizer.special_ids,
        p=p,
        generator=generator,
    )


class Judged(NamedTuple):
    """The loss at each masked word, in nats, and the share of pairs told right."""

    words: Float[Tensor, "n"]
    pairs: float


@torch.no_grad()
def judge(
    model: BertForPreTraining,
    inputs: Tensor,
    labels: Tensor,
    pairs: Pairs,
    rows: int = 128,
) -> Judged:
    """Both tasks on pairs, masked as `mask_tokens` does; the mode is left as it was."""
    was_training = model.training
    model.eval()
    losses, right = [], []
    for at in torch.arange(len(inputs)).split(rows):
        x, pooled = model.bert(inputs[at], None, pairs.types[at])
        asked = labels[at] != IGNORED
        logits = model.cls.predictions(x[asked])
        losses.append(F.cross_entropy(logits, labels[at][asked], reduction="none"))
        right.append(model.cls.seq_relationship(pooled).argmax(1) == pairs.labels[at])
    model.train(was_training)
    return Judged(torch.cat(losses), torch.cat(right).float().mean().item())


@torch.no_grad()
def widen_(model: nn.Module, std: float) -> None:
    """Take the Linears' first weights from a std of 0.02 to another; tables stay."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in tables:
            module.weight.mul_(std / 0.02)
