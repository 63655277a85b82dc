"""Every choice of a run in one frozen dataclass; and three presets to begin from."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from companion.gpt import GPTConfig

__all__ = ["PRESETS", "Config", "differences"]

_FREE: dict[str, Any] = {"free": True}  # may be another when a run goes on


@dataclass(frozen=True)
class Config:
    """Train a GPT on token shards; stopped at any moment, the same command goes on."""

    data: Path = field(default=Path("data"), metadata=_FREE)
    """Folder of token shards. If it is not there, it is made from `source`."""
    out: Path = field(default=Path("runs/laptop"), metadata=_FREE)
    """Folder for checkpoints, metrics and samples."""
    source: str = ""
    """What to make the shards of: see python -m companion.pretrain.prepare --help."""
    encoding: str = "gpt2"
    """And in which encoding."""

    n_layer: int = 12
    """Blocks."""
    n_head: int = 12
    """Heads of each attention."""
    n_embd: int = 768
    """Channels of the residual stream, C."""
    block_size: int = 1024
    """Tokens of a row, T: the context."""
    vocab_size: int = 0
    """Rows of the token table; 0: what the encoding has, padded up to a multiple of 64."""
    dropout: float = 0.0
    """Share of activations zeroed in training."""

    batch_tokens: int = 524_288
    """Tokens of one step, of all processes together."""
    micro_rows: int = field(default=16, metadata=_FREE)
    """Rows that one process runs at a time; a step adds up as many runs as it takes."""
    steps: int = 19_073
    """Steps of the optimizer."""
    lr: float = 6e-4
    """Learning rate, reached after warm-up."""
    min_lr: float = 6e-5
    """Learning rate at the end of the cosine."""
    warmup: int = 715
    """Steps of warm-up."""
    weight_decay: float = 0.1
    """Of matrices and tables; biases and norms do not decay."""
    beta1: float = 0.9
    """AdamW's, of the mean gradient."""
    beta2: float = 0.95
    """AdamW's, of the mean square."""
    clip: float = 1.0
    """Gradients of a larger norm are scaled down to this one."""
    seed: int = 1337
    """Of the weights and of dropout."""

    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=_FREE)
    """auto: a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products. auto: bfloat16 on GPUs, and on CPUs that multiply it faster."""
    compile: Literal["auto", "yes", "no"] = field(default="auto", metadata=_FREE)
    """torch.compile. auto: where a compiler is at hand and the run is long enough to pay for it."""
    peak_tflops: float = field(default=0.0, metadata=_FREE)
    """The machine's peak, for MFU; 0: measured at the start. H100: 989 in bfloat16."""

    eval_every: int = field(default=250, metadata=_FREE)
    """Steps between estimates of the held-out loss."""
    eval_tokens: int = 1_048_576
    """Held-out tokens that an estimate reads."""
    sample_every: int = field(default=1000, metadata=_FREE)
    """Steps between samples; 0: none."""
    prompt: str = field(default="\n", metadata=_FREE)
    """What samples begin with."""
    save_every: int = field(default=500, metadata=_FREE)
    """Steps between checkpoints."""
    keep: int = field(default=3, metadata=_FREE)
    """How many of the last checkpoints stay; the best one stays as well."""
    hellaswag_every: int = field(default=0, metadata=_FREE)
    """Steps between HellaSwag scores; 0: none."""

    def __post_init__(self) -> None:
        least = {"batch_tokens": 1, "micro_rows": 1, "steps": 1, "eval_every": 1, "eval_tokens": 1}
        least |= {"save_every": 1, "keep": 1, "sample_every": 0, "hellaswag_every": 0, "warmup": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}={getattr(self, name)} should be at least {low}")
        if not 0 <= self.min_lr <= self.lr or not self.lr > 0:
            raise ValueError(
                f"lr={self.lr} and min_lr={self.min_lr} should be 0 < lr, min_lr <= lr"
            )
        if self.warmup > self.steps:
            raise ValueError(f"warmup={self.warmup} is more than steps={self.steps}")
        if self.batch_tokens % self.block_size:
            raise ValueError(
                f"batch_tokens={self.batch_tokens} is not divisible by block_size={self.block_size}"
            )
        if self.clip <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"clip={self.clip} should be positive, {self.weight_decay=} not negative"
            )
        self.model(self.vocab_size or 64)  # refuses sizes that make no model

    def model(self, vocab_size: int) -> GPTConfig:
        """The model's sizes, with so many rows in the token table."""
        return GPTConfig(
            vocab_size=vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            dropout=self.dropout,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def differences(config: Config, kept: dict[str, Any]) -> list[str]:
    """What a checkpoint's config has otherwise, of that which decides the result."""
    ours = config.as_dict()
    names = [f.name for f in fields(config) if not f.metadata.get("free")]
    return [f"{n}: {kept.get(n)!r}, now {ours[n]!r}" for n in names if kept.get(n) != ours[n]]


GPT2_124M = Config(
    data=Path("data/fineweb-edu"),
    out=Path("runs/gpt2-124m"),
    source="hf:HuggingFaceFW/fineweb-edu:sample-10BT",
    hellaswag_every=1000,
    micro_rows=64,
)
PRESETS = {
    "laptop": Config(
        data=Path("data/shakespeare"),
        out=Path("runs/laptop"),
        source="tinyshakespeare",
        encoding="chars",
        n_layer=4,
        n_head=4,
        n_embd=128,
        block_size=64,
        batch_tokens=12 * 64,
        micro_rows=12,
        steps=2000,
        lr=3e-3,
        min_lr=1e-4,
        warmup=100,
        beta2=0.99,
        eval_every=250,
        eval_tokens=20 * 12 * 64,
        sample_every=500,
        save_every=250,
    ),
    "evening": Config(
        data=Path("data/python-source"),
        out=Path("runs/evening"),
        source="python_source",
        encoding="learn:4096",
        n_layer=6,
        n_head=6,
        n_embd=384,
        block_size=256,
        batch_tokens=32 * 256,
        micro_rows=8,
        steps=2500,
        lr=1e-3,
        min_lr=1e-4,
        warmup=100,
        eval_every=100,
        eval_tokens=64 * 256,
        sample_every=500,
        save_every=100,
        prompt="def ",
    ),
    "gpt2-124m": GPT2_124M,
}
