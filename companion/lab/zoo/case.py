"""What a case of the zoo is: a model, and how its owner trains it, one of them typed wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.doctor import examine
from companion.doctor_report import Report
from companion.gpt import GPT, GPTConfig
from companion.init import init_gpt2_
from companion.lab.training import Corpus, random_windows
from companion.loss import next_token_loss
from companion.optim import configure_optimizer
from companion.probing import evaluating

WIDTH, HEADS, LAYERS, BLOCK_SIZE = 64, 4, 2, 32
ROWS = 8  # of a batch

Batch = tuple[Tensor, Tensor]  # ids and targets, (B, T) each


def shifted(window: Tensor) -> Batch:
    """Of rows of T + 1 ids, the first T and, for each, the next."""
    return window[:, :-1], window[:, 1:]


default_optimizer = partial(configure_optimizer, lr=1e-3, weight_decay=0.1, fused=False)


@dataclass(frozen=True)
class Case:
    """A language model and its owner's training, with one thing typed wrong, or nothing.

    `wrong` says what; `finding` is what the doctor calls it, "" where it says nothing.
    `make(vocab)` makes the model; `loss(logits, targets)`, `targets(window)` and
    `optimizer(model)` are its owner's.
    """

    name: str
    wrong: str
    finding: str
    make: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] = next_token_loss
    targets: Callable[[Tensor], Batch] = shifted
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = default_optimizer
    block_size: int = BLOCK_SIZE

    def model(self, vocab: int, seed: int) -> nn.Module:
        """The model of a seed; models whose layers have the same shapes start alike."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make(vocab)

    def batch(self, text: Corpus, order: torch.Generator) -> Batch:
        """8 rows of 32 characters, from random places of the text, and their targets."""
        return self.targets(window(text.train, ROWS, order))

    def train(self, model: nn.Module, text: Corpus, *, steps: int, seed: int) -> list[float]:
        """Train it as its owner does; return what the owner sees, the loss of each step."""
        optimizer, losses = self.optimizer(model), []
        order = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for _ in range(steps):
                ids, targets = self.batch(text, order)
                loss = self.loss(logits_of(model, ids), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return losses

    def report(self, text: Corpus, model: nn.Module | None = None, *, seed: int = 0) -> Report:
        """What the doctor says of a model, by default a fresh one, and of its training."""
        model = self.model(text.vocab, seed) if model is None else model
        return examine(
            model,
            self.batch(text, torch.Generator().manual_seed(seed)),
            vocab_size=text.vocab,
            block_size=self.block_size,
            loss_fn=self.loss,
            optimizer=self.optimizer(model),
        )

    @torch.no_grad()
    def held_out(self, model: nn.Module, text: Corpus, batches: int = 20) -> float:
        """The loss on held-out text as its owner measures it, dropout off."""
        order = torch.Generator().manual_seed(99)
        with evaluating(model):
            pairs = (self.targets(window(text.val, ROWS, order)) for _ in range(batches))
            losses = [self.loss(logits_of(model, ids), targets).item() for ids, targets in pairs]
        return sum(losses) / batches

    @torch.no_grad()
    def alone(self, model: nn.Module, text: Corpus, texts: int = 200) -> float:
        """The loss of one character, the next of a held-out text that the model reads alone.

        Nothing later is there, nor any other row: the loss that counts in writing.
        """
        order = torch.Generator().manual_seed(99)
        rows = window(text.val, texts, order)
        with evaluating(model):
            logits = torch.stack([logits_of(model, row[None, :-1])[0, -1].float() for row in rows])
        return F.cross_entropy(logits, rows[:, -1]).item()


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits (B, T, V) in the model's own mode, bare or as transformers hands them on."""
    output = model(ids)
    return getattr(output, "logits", output)


def window(ids: Tensor, rows: int, order: torch.Generator) -> Tensor:
    """Rows of 33 characters from random places."""
    row, next_ids = random_windows(ids, BLOCK_SIZE, rows, order)
    return torch.cat([row, next_ids[:, -1:]], dim=1)


def gpt(
    vocab: int,
    *,
    model: type[GPT] = GPT,
    block: Callable[[GPTConfig], nn.Module] | None = None,
    attention: Callable[..., nn.Module] | None = None,
    norm: Callable[[int], nn.Module] | None = None,
    block_size: int = BLOCK_SIZE,
    dropout: float = 0.0,
    tied: bool = True,
    layers: int = LAYERS,
) -> GPT:
    """A small GPT, 2 layers of 64 channels, some part of it replaced, as GPT-2 starts."""
    config = GPTConfig(vocab, block_size, layers, HEADS, WIDTH, dropout, tied=tied)
    chance = torch.get_rng_state()
    net = model(config)
    for n in range(layers) if block else ():
        net.h[n] = block(config)
    for one in net.h if attention else ():
        one.attn = attention(WIDTH, HEADS, block_size)
    for one in net.h if norm else ():
        one.ln_1, one.ln_2 = norm(WIDTH), norm(WIDTH)
    torch.set_rng_state(chance)  # what was replaced took its share of chance; start anew
    init_gpt2_(net, layers)
    return net


def part(**replaced: object) -> Callable[[int], nn.Module]:
    """What makes a small GPT with a part of it replaced."""
    return lambda vocab: gpt(vocab, **replaced)
