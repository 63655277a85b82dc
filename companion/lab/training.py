"""Train a small character model in seconds, one part of it swapped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion import assets
from companion.lab.progress import progress
from companion.lab.toy import Toy
from companion.tokenizer import BPETokenizer

EVERY = 10  # steps between two calls of `watch`


@dataclass(frozen=True)
class Corpus:
    """A text as ids of characters: the first nine tenths to train on, the rest held out.

    Or of tokens, where `chars` has each token's text.
    """

    chars: Sequence[str]
    train: Int[Tensor, "N"]
    val: Int[Tensor, "M"]

    @property
    def vocab(self) -> int:
        """How many different characters, or tokens, there are."""
        return len(self.chars)

    def encode(self, text: str) -> Int[Tensor, "T"]:
        """Ids of the characters. ValueError for a character that the text does not have."""
        strange = sorted(set(text) - set(self.chars))
        if strange:
            raise ValueError(f"{strange[0]!r} is not one of the text's {self.vocab} characters")
        return torch.tensor([self.chars.index(c) for c in text], dtype=torch.long)

    def decode(self, ids: Int[Tensor, "T"]) -> str:
        """The characters of ids."""
        return "".join(self.chars[i] for i in ids.tolist())


@dataclass(frozen=True)
class Run:
    """What a run left: the loss of every step, held-out losses (step, loss), what was watched."""

    loss: list[float]
    val_loss: list[tuple[int, float]]
    watched: list[tuple[int, Any]] = field(repr=False)
    model: nn.Module = field(repr=False)


def corpus(
    name: str = "python_docs", *, fallback: str | None = None, tokens: int | None = None
) -> Corpus:
    """A text of `companion.assets` as characters; the fallback where it is not at hand.

    Or as that many byte-pair tokens, learned from the part that is trained on.
    """
    text = assets.text(name, fallback=fallback)
    return _characters(text) if tokens is None else _tokens(text, tokens)


@cache
def _manual() -> Corpus:
    return corpus("python_docs")  # said once, however many runs train on it


@cache
def _characters(text: str) -> Corpus:
    chars = "".join(sorted(set(text)))
    place = {c: i for i, c in enumerate(chars)}
    ids = torch.tensor([place[c] for c in text])
    cut = int(0.9 * len(ids))
    return Corpus(chars, ids[:cut], ids[cut:])


@cache
def _tokens(text: str, size: int) -> Corpus:
    cut = int(0.9 * len(text))
    tokenizer = BPETokenizer.train(text[:cut], size, bar=progress)
    parts = [torch.tensor(tokenizer.encode(part)) for part in (text[:cut], text[cut:])]
    return Corpus([tokenizer.decode([id]) for id in range(size)], *parts)


def next_id_loss(
    logits: Float[Tensor, "B T V"], ids: Int[Tensor, "B T"], next_ids: Int[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of logits against the ids that come next; `ids` is not looked at."""
    return F.cross_entropy(logits.flatten(0, 1), next_ids.flatten())


def train(
    *,
    steps: int,
    seed: int = 0,
    lr: float = 1e-3,
    watch: Callable[[nn.Module], Any] | None = None,
    text: Corpus | None = None,
    batch: int = 16,
    evaluate_every: int | None = None,
    model: Callable[[int], nn.Module] = Toy,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = next_id_loss,
    **pieces: Any,
) -> Run:
    """Train `model(vocab, **pieces)` on a text's characters with AdamW; return what happened.

    `model` maps ids (B, T) to logits (B, T, V) and knows its `context`; `loss(logits, ids,
    next_ids)` is what it is trained on. `watch(model)` is called every 10 steps and after the last.
    Held-out loss, whatever was trained on, is the right one, taken on the same 20 batches before
    the first step, every `evaluate_every` steps (a tenth of the run), and at the end. The same
    seed gives the same run; the global random state is left as it was.
    """
    text = text or _manual()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = model(text.vocab, **pieces)
        order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
        losses, watched = [], []
        val_loss = [(0, held_out_loss(net, text))]
        pause = evaluate_every or max(1, steps // 10)
        for step in progress(range(1, steps + 1), f"training, seed {seed}"):
            ids, targets = random_windows(text.train, net.context, batch, order)
            value = loss(net(ids), ids, targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
            if watch and (step % EVERY == 0 or step == steps):
                watched.append((step, watch(net)))
            if step % pause == 0 or step == steps:
                val_loss.append((step, held_out_loss(net, text)))
    return Run(losses, val_loss, watched, net)


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Corpus, batches: int = 20, rows: int = 16) -> float:
    """Mean loss in nats a character on fixed windows of the held-out text, dropout off."""
    was_training = model.training
    model.eval()
    order = torch.Generator().manual_seed(99)
    windows = (random_windows(text.val, model.context, rows, order) for _ in range(batches))
    mean = sum(next_id_loss(model(ids), ids, targets).item() for ids, targets in windows) / batches
    model.train(was_training)
    return mean


def random_windows(
    ids: Int[Tensor, "N"], T: int, rows: int, order: torch.Generator
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Windows of T ids from random places, and each id's successor. ValueError for a short text."""
    if len(ids) <= T:
        raise ValueError(
            f"a text of {len(ids)} ids is too short for windows of {T} and a successor"
        )
    starts = torch.randint(len(ids) - T, (rows, 1), generator=order)
    window = ids[starts + torch.arange(T + 1)]
    return window[:, :-1], window[:, 1:]


@torch.no_grad()
def sample(model: nn.Module, text: Corpus, prompt: str, *, length: int = 200, seed: int = 0) -> str:
    """The prompt and `length` characters more, each drawn from what the model holds likely."""
    order = torch.Generator().manual_seed(seed)
    ids = text.encode(prompt)[None]
    for _ in range(length):
        weights = model(ids[:, -model.context :])[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(weights, 1, generator=order)], dim=1)
    return text.decode(ids[0])
