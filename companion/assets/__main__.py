"""Fetches assets by name; without names, lists which are on this machine."""

import argparse
import sys

from . import AssetError, at_hand, encoding, files, model_folder, models, text, texts


def describe(name: str) -> str:
    """What an asset costs to fetch."""
    if name in texts.BUILT_IN:
        return "comes with Python"
    if name in models.MODELS:
        return "a released model"
    pins = files.ENCODINGS["gpt2"] if name == "gpt2-encoding" else [texts.PINS[name]]
    return f"{sum(pin.size for pin in pins) / 1e6:.1f} MB"


def fetch(name: str) -> None:
    """Gets one asset, from this machine or else from the network, and says so in a line."""
    if name in [*texts.BUILT_IN, *texts.PINS]:
        text(name)
    elif name == "gpt2-encoding":
        print(f"gpt2-encoding: {encoding('gpt2').n_vocab:,} tokens")
    else:
        print(f"{name}: {model_folder(name)}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status is 1 where an asset could not be had."""
    parser = argparse.ArgumentParser(prog="python -m companion.assets", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="as listed, or owner/name: a model"
    )
    names = parser.parse_args(arguments).names
    known = [*texts.BUILT_IN, *texts.PINS, "gpt2-encoding", *models.MODELS]
    for name in names:
        if name not in known and name.count("/") != 1:
            parser.error(f"{name!r} is none of {', '.join(known)}, and no 'owner/name'")
    try:
        for name in names:
            fetch(name)
        for name, here in {} if names else at_hand().items():
            print(f"{'at hand' if here else 'not here':<10}{name:<20}{describe(name)}")
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
