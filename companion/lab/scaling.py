"""How much an experiment does: COMPANION_SCALE is ci, laptop (the default) or gpu."""

import os
from typing import TypeVar

T = TypeVar("T")
SCALES = ("ci", "laptop", "gpu")


def current_scale() -> str:
    """The scale in force. ValueError where COMPANION_SCALE names no scale."""
    name = os.environ.get("COMPANION_SCALE") or "laptop"
    if name not in SCALES:
        raise ValueError(f"COMPANION_SCALE={name!r} is none of {', '.join(SCALES)}")
    return name


def scale(*, ci: T, laptop: T, gpu: T | None = None) -> T:
    """The value for the scale in force; `gpu` defaults to the laptop's.

    >>> steps = scale(ci=50, laptop=1500)
    """
    return {"ci": ci, "laptop": laptop, "gpu": laptop if gpu is None else gpu}[current_scale()]
