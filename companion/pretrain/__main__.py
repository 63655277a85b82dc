"""Train a GPT: `python -m companion.pretrain --preset laptop`, or many processes by torchrun."""

import argparse
import os
import sys
import traceback

import tyro

from companion import assets
from companion.pretrain.config import PRESETS, Config
from companion.pretrain.loop import run
from companion.pretrain.machine import keep_memory
from companion.pretrain.prepare import Prepare, prepare

__all__ = ["configured", "main"]


def configured(arguments: list[str]) -> Config:
    """The config of a command line: a preset, field by field changed by what follows."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", choices=list(PRESETS), default="laptop")
    chosen, rest = first.parse_known_args(arguments)
    presets = ", ".join(PRESETS)
    return tyro.cli(
        Config,
        args=rest,
        default=PRESETS[chosen.preset],
        prog="python -m companion.pretrain",
        description=f"{Config.__doc__}\n\n--preset NAME: {presets}. The defaults below are "
        f"those of {chosen.preset}. On 8 GPUs: torchrun --standalone --nproc-per-node 8 "
        "-m companion.pretrain --preset gpt2-124m",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run, and say in one line what went wrong, if it was ours to say."""
    config = configured(sys.argv[1:] if arguments is None else arguments)
    try:
        if config.source and not config.data.exists():
            if int(os.environ.get("WORLD_SIZE", 1)) > 1:
                raise ValueError(
                    f"{config.data} is not there; one process has to make it, before many train: "
                    f"python -m companion.pretrain.prepare --source {config.source} "
                    f"--out {config.data} --encoding {config.encoding} --val-share 0.1"
                )
            prepare(Prepare(config.source, config.data, config.encoding, val_share=0.1))
        loss = run(config)
    except (ValueError, OSError, assets.AssetError) as error:
        if not str(error):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if loss is not None:
        print(f"done: held-out loss {loss:.4f} nats a token; {config.out}")
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main())
