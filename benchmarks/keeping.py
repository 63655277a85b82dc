"""What every record in results/ says of its machine, and the file that it is kept in."""

import json
import os
import platform
import re
from datetime import date
from itertools import count
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def this_machine() -> str:
    """Cores, CPU, architecture and system; with the CPU that is bought, ratios move too."""
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)", cpus.read_text() if cpus.exists() else "", re.M)
    cpu = named[1] if named else platform.processor() or "unknown CPU"
    return f"{os.cpu_count()} cores, {cpu}, {platform.machine()}, {platform.system()}"


def keep(name: str, record: dict) -> None:
    """Write results/NAME_DATE.json; a second record of a day gets a number, none is replaced."""
    stem = f"{name}_{date.today().isoformat()}"
    names = (f"{stem}{f'_{n}' if n > 1 else ''}.json" for n in count(1))
    path = next(path for path in map(RESULTS.joinpath, names) if not path.exists())
    path.write_text(json.dumps(record, indent=1, default=str) + "\n")
    print(f"kept in {path.parent.name}/{path.name}")
