"""What this machine has for the course."""

import os
import platform

import torch

from companion import assets
from companion.lab.scaling import current_scale


def ready() -> None:
    """Print the versions, the processor, the scale and the texts that are at hand."""
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}")
    gpu = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU, and none is needed"
    )
    print(f"{os.cpu_count()} cores, {gpu}")
    print(f"scale {current_scale()} (set COMPANION_SCALE to ci, laptop or gpu before starting)")
    for name, here in assets.at_hand().items():
        note = "at hand" if here else f"not here; python -m companion.assets {name} fetches it"
        print(f"{name:<18} {note}")
    print("ready")
