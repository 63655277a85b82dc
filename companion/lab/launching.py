"""Start a lesson's function in several processes of this machine, as torchrun does it."""

import ast
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from time import perf_counter
from types import ModuleType
from typing import Any

MAIN = """
if __name__ == "__main__":
    import json, os, signal, sys, time, torch
    from pathlib import Path
    from companion.parallel import this_rank

    signal.alarm(int(sys.argv[3]))  # whatever happens, this process ends
    torch.set_num_threads(1)
    with this_rank("cpu") as place:
        returned = {name}(place, **json.loads(sys.argv[2]))
        Path(sys.argv[1], f"{{place.rank}}.json").write_text(json.dumps(returned))
        # Nobody hangs up while another still talks. By files and not by a collective: one that a
        # rank makes too often would pair with it, and succeed.
        end = time.monotonic() + int(sys.argv[3]) / 4
        while len(list(Path(sys.argv[1]).glob("*.json"))) < place.world:
            if time.monotonic() > end:
                raise RuntimeError(f"rank {{place.rank}} is at its end, and another is not")
            time.sleep(0.02)
    os._exit(0)  # gloo's threads do not bear the interpreter's end
"""


@dataclass(frozen=True)
class Launched:
    """What came of a launch: each rank's value, or what the processes said as they failed."""

    values: list[Any]
    code: int
    seconds: float
    said: str


def launch(
    worker: Callable[..., Any],
    *,
    processes: int = 2,
    timeout: int = 100,
    fails: bool = False,
    **settings: Any,
) -> Any:
    """`worker(rank, **settings)` in each of several processes; the list of what they returned.

    torchrun starts a script made of the worker's source and of the functions, modules and plain
    values that it names; so it can use what the notebook defined. It returns what JSON can hold.
    At its end the ranks meet, for at most a quarter of `timeout`: one that made a collective more
    than the other fails there. With `fails` the `Launched` itself comes back. RuntimeError, with
    what the processes wrote, where it failed; no process outlives `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, f"{worker.__name__}.py")
        script.write_text(script_of(worker))
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        words += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
        words += [str(script), folder, json.dumps(settings), str(timeout)]
        start = perf_counter()
        code, said = _run(words, timeout)
        took = perf_counter() - start
        paths = [Path(folder, f"{rank}.json") for rank in range(processes)]
        values = [json.loads(path.read_text()) if path.exists() else None for path in paths]
        launched = Launched(values, code, took, said.replace(folder, "."))
    if fails:
        return launched
    if code:
        raise RuntimeError(f"{worker.__name__} ended with code {code}:\n{launched.said}")
    return values


def script_of(worker: Callable[..., Any]) -> str:
    """A script that a process can run: what the worker names, the worker, and a call of it."""
    parts: dict[str, str] = {}
    _collect(worker, parts)
    text = "\n\n".join(["from __future__ import annotations", *parts.values()])
    return text + "\n\n" + MAIN.format(name=worker.__name__)


def _collect(function: Callable[..., Any], parts: dict[str, str]) -> None:
    source = dedent(inspect.getsource(function))
    space = inspect.unwrap(function).__globals__
    for name in dict.fromkeys(_names(source)):
        if name in space and name not in parts and name != function.__name__:
            parts[name] = ""  # its place, so that two that name each other end
            value = space[name]
            if inspect.isfunction(value) and value.__module__ == "__main__":
                del parts[name]
                _collect(value, parts)
            else:
                parts[name] = _line(name, value)
    parts[function.__name__] = source


def _names(source: str) -> Iterator[str]:
    """What is read and nowhere set: globals of the notebook, and builtins."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return (node.id for node in names if node.id not in own)


def _line(name: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}"
    module = getattr(value, "__module__", None)
    if module == "__main__":  # a class of the notebook: an annotation, which nothing evaluates
        return ""
    if module and getattr(value, "__name__", None):
        return f"from {module} import {value.__name__} as {name}"
    return f"{name} = {value!r}"


def _run(words: list[str], timeout: int) -> tuple[int, str]:
    """Exit code and standard error. However this ends, torchrun ends, and its processes first."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    place |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    place.pop("COMPANION_RECORD", None)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=place, **pipes) as process:
        try:
            _, said = process.communicate(timeout=timeout)
            return process.returncode, said
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"not ended after {timeout} seconds: {words[-4]}") from error
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # torchrun then stops what it started
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
