"""The run: steps of AdamW over shards, by one process or many, that can be stopped at any time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import isfinite
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from companion.flops import flops_per_token, measured_peak_flops, mfu
from companion.gpt import GPT
from companion.optim import configure_optimizer, lr_at
from companion.parallel import Rank, all_sum, gradients_follow, this_rank
from companion.pretrain.checkpoints import Checkpoint, Checkpoints
from companion.pretrain.config import Config, differences
from companion.pretrain.encodings import Encoding
from companion.pretrain.hellaswag import items_in, score, validation_set
from companion.pretrain.loader import ShardLoader
from companion.pretrain.machine import can_compile, has_fast_bfloat16
from companion.pretrain.shards import shards_in
from companion.pretrain.watching import Watch
from companion.probing import evaluating

__all__ = ["Run", "run"]


def run(config: Config) -> float | None:
    """Train to the end, or go on to it from the last checkpoint; return the last held-out loss.

    None where SIGTERM stopped it, after a checkpoint. ValueError for a config that differs from
    the checkpoint's, for shards that are refused, and for a loss that is not finite, which names
    the step and the batch; OSError where a checkpoint cannot be written.
    """
    with this_rank(config.device) as rank:
        return Run(config, rank).train()


class Run:
    """One process's part in a run: model, optimizer, loader and place, and how they move on."""

    def __init__(self, config: Config, rank: Rank) -> None:
        self.config, self.rank = config, rank
        encoding = Encoding.load(config.data)
        self.encoding = encoding
        train = shards_in(config.data, "train", encoding=encoding.name)
        val = shards_in(config.data, "val", encoding=encoding.name)
        rows, self.micro_steps = _rows_and_micro_steps(config, rank.world)
        T = config.block_size
        lanes = config.batch_tokens // T
        self.loader = ShardLoader(train, rows, T, rank=rank.rank, world=rank.world, lanes=lanes)
        self.val_loader = ShardLoader(val, 1, T)

        torch.manual_seed(config.seed)
        vocab_size = config.vocab_size or -(-encoding.vocab_size // 64) * 64
        if vocab_size < encoding.vocab_size:
            raise ValueError(f"{vocab_size=} is less than the encoding's {encoding.vocab_size}")
        self.model = GPT(config.model(vocab_size)).to(rank.device)
        self.optimizer = configure_optimizer(
            self.model,
            lr=config.lr,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
        )
        self.step = 0
        torch.manual_seed(config.seed + rank.rank)  # dropout: each process its own
        self.checkpoints = Checkpoints(config.out / "checkpoints", config.keep)
        self._go_on()

        if config.hellaswag_every:
            validation_set(config.data)  # fetched now: a network that fails later ends the run

        self.bfloat16 = config.dtype == "bfloat16" or (
            config.dtype == "auto" and has_fast_bfloat16(rank.device)
        )
        torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it
        self.forward = self.model
        pays = config.steps >= 500  # of the whole run: compiled as before, wherever it goes on
        if config.compile == "yes" or (
            config.compile == "auto" and pays and can_compile(rank.device)
        ):
            self.forward = torch.compile(self.forward)
        if rank.world > 1:
            gpus = [rank.device.index] if rank.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, device_ids=gpus)

    def train(self) -> float | None:
        """The steps that are left. See `run`."""
        config, val_loss = self.config, None
        if self.step >= config.steps and self.rank.first:
            print(
                f"{self.checkpoints.path(self.step)} is the end of this run: nothing is left to do"
            )
        watch = Watch(config.out, steps=config.steps, start=self.step, speaks=self.rank.first)
        flops = flops_per_token(self.model, config.block_size)
        peak = self._peak()
        try:
            with _stop_on_sigterm() as asked:
                self.model.train()
                while self.step < config.steps:
                    start = perf_counter()
                    loss, norm, stop = self._one_step(asked())
                    seconds = perf_counter() - start
                    self.step += 1
                    speed = config.batch_tokens / seconds
                    metrics = {
                        "loss": loss,
                        "lr": self.optimizer.param_groups[0]["lr"],
                        "norm": norm,
                        "tokens_per_s": speed,
                        "mfu": mfu(speed, flops, peak),
                    }
                    last = self.step == config.steps
                    val_loss = None
                    if self.step % config.eval_every == 0 or last:
                        metrics["val_loss"] = val_loss = self.held_out_loss()
                    watch.step(self.step - 1, **metrics)
                    if config.sample_every and (self.step % config.sample_every == 0 or last):
                        self._sample(watch)
                    every = config.hellaswag_every
                    if every and (self.step % every == 0 or last):
                        self._hellaswag(watch)
                    if self.step % config.save_every == 0 or last or stop:
                        self._save(val_loss)
                    if stop and not last:
                        watch.say(
                            f"stopped by SIGTERM after step {self.step}; run it again to go on"
                        )
                        return None
            return val_loss
        finally:
            watch.close()

    def _one_step(self, stop: bool) -> tuple[float, float, bool]:
        """Add up the gradients of a step's tokens, clip, step. Loss, norm, and whether to stop."""
        config, device = self.config, self.rank.device
        lr = lr_at(
            self.step, steps=config.steps, lr=config.lr, warmup=config.warmup, min_lr=config.min_lr
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=device, dtype=torch.float64)
        first = self.loader.place(self.loader.position // config.block_size)
        for micro in range(self.micro_steps):
            ids, targets = (x.to(device, non_blocking=True) for x in self.loader.next_batch())
            with gradients_follow(self.forward, last=micro == self.micro_steps - 1):
                with self._autocast():
                    loss = self.forward(ids, targets)
                # every process's mean counts by its tokens; DDP takes the mean over processes
                share = targets.numel() * self.rank.world / config.batch_tokens
                (loss * share).backward()
            total += loss.detach().double() * targets.numel()
        counted = all_sum(torch.stack([total, total.new_tensor(float(stop))]))
        loss, stop = counted[0].item() / config.batch_tokens, counted[1].item() > 0
        if not isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {self.step}; the first of its {self.loader.lanes} "
                f"rows begins at token {first:,} of the train shards, and the next ones are "
                f"{self.loader.tokens // self.loader.lanes:,} tokens apart; "
                "the last checkpoint is whole"
            )
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip).item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, norm, stop

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Nats a token, over the first `eval_tokens` held out, spread over the processes."""
        T, loader = self.config.block_size, self.val_loader
        rows = max(1, min(self.config.eval_tokens, loader.tokens - 1) // T)
        mine = torch.arange(rows)[self.rank.rank :: self.rank.world]
        total = torch.zeros(2, dtype=torch.float64, device=self.rank.device)
        with evaluating(self.model):
            for some in mine.split(self.config.micro_rows):
                rows = np.stack([loader.read(int(row) * T, T + 1) for row in some])
                window = torch.from_numpy(rows.astype(np.int64)).to(self.rank.device)
                with self._autocast():
                    loss = self.model(window[:, :-1], window[:, 1:])
                total += torch.tensor([loss.item() * len(some), len(some)], device=total.device)
        summed, count = all_sum(total).tolist()
        return summed / count

    def _sample(self, watch: Watch) -> None:
        """Write a few words; only one process does, by a generator of its own."""
        if not self.rank.first:
            return
        generator = torch.Generator(self.rank.device).manual_seed(self.config.seed)
        try:
            prompt = list(self.encoding.encode(self.config.prompt)) or [0]
        except ValueError:
            prompt = [0]
        length = min(100, self.config.block_size)
        ids = self.model.generate(
            torch.tensor([prompt], device=self.rank.device),
            length,
            top_k=50,
            generator=generator,
            vocab_size=self.encoding.vocab_size,
        )
        text = self.encoding.decode(ids[0].tolist())
        watch.say(f"--- step {self.step}\n{text}\n---")
        watch.note(self.step - 1, sample=text)

    def _hellaswag(self, watch: Watch) -> None:
        """Score the endings, all processes together."""
        T, encode = self.config.block_size, self.encoding.encode
        items = items_in(validation_set(self.config.data))
        found = score(self.model, items, encode, block_size=T, rank=self.rank)
        watch.say(f"HellaSwag: acc {found.acc:.4f}, acc_norm {found.acc_norm:.4f}")
        watch.note(self.step - 1, hellaswag_acc=found.acc, hellaswag_acc_norm=found.acc_norm)

    def _save(self, val_loss: float | None) -> None:
        """A checkpoint, by the first process; the others wait, and fail with it."""
        random = _gathered_random_state(self.rank)
        failed = None
        if self.rank.first:
            state = Checkpoint(self.step, self.loader.position, self.config.as_dict(), random)
            try:
                self.checkpoints.save(self.model, self.optimizer, state, val_loss=val_loss)
            except OSError as error:
                failed = error
        flag = all_sum(torch.tensor([float(failed is not None)], device=self.rank.device))
        if failed is not None:
            raise failed
        if flag.item():
            raise OSError("the first process could not keep a checkpoint")

    def _go_on(self) -> None:
        """From the last checkpoint, if there is one."""
        steps = self.checkpoints.steps()
        if not steps:
            return
        step = steps[-1]
        if wrong := differences(self.config, self.checkpoints.config(step)):
            raise ValueError(
                f"{self.checkpoints.path(step)} is of another config:\n  "
                + "\n  ".join(wrong)
                + "\ngive the same one, or another --out"
            )
        kept = self.checkpoints.load(step, self.model, self.optimizer)
        self.step, self.loader.position = kept.step, kept.position
        name = f"cpu_{self.rank.rank}"
        if name in kept.random:
            torch.set_rng_state(kept.random[name])
        if self.rank.device.type == "cuda" and f"cuda_{self.rank.rank}" in kept.random:
            torch.cuda.set_rng_state(kept.random[f"cuda_{self.rank.rank}"], self.rank.device)

    def _autocast(self):
        if not self.bfloat16:
            return nullcontext()
        return torch.autocast(self.rank.device.type, dtype=torch.bfloat16)

    def _peak(self) -> float:
        """Of the machine: all processes' devices together."""
        if self.config.peak_tflops:
            return self.config.peak_tflops * 1e12 * self.rank.world
        dtype = torch.bfloat16 if self.bfloat16 else torch.float32
        gpus = [self.rank.device.index] if self.rank.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):  # the random state was restored before this
            return measured_peak_flops(self.rank.device, dtype) * self.rank.world


def _rows_and_micro_steps(config: Config, world: int) -> tuple[int, int]:
    """How many rows a process runs at a time, at most `micro_rows`, and how often in a step."""
    rows = config.batch_tokens // config.block_size
    if rows % world:
        raise ValueError(f"a step's {rows} rows do not divide into {world} processes")
    mine = rows // world
    micro = next(n for n in range(min(mine, config.micro_rows), 0, -1) if mine % n == 0)
    return micro, mine // micro


def _gathered_random_state(rank: Rank) -> dict[str, Tensor]:
    """Every process's random states, by "cpu_RANK" and "cuda_RANK", in each process."""
    mine = {"cpu": torch.get_rng_state()}
    if rank.device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(rank.device)
    everyone = {}
    for kind, state in mine.items():
        rows = torch.zeros(rank.world, len(state), dtype=torch.int32, device=rank.device)
        rows[rank.rank] = state.to(rank.device, torch.int32)
        for n, row in enumerate(all_sum(rows)):
            everyone[f"{kind}_{n}"] = row.to("cpu", torch.uint8)
    return everyone


@contextmanager
def _stop_on_sigterm() -> Iterator:
    """A function that says whether SIGTERM has come; the handler before it is put back."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
