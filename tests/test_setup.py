"""The way in: one set of pins, a clear word to those who lack something, and no network."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml

from companion.gpt import GPT, GPTConfig

ROOT = Path(__file__).parents[1]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement):
    return re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")


def test_every_dependency_is_pinned():
    pinned = {name.lower().replace("_", "-") for name in PINS}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert {name_of(requirement) for requirement in wanted} <= pinned


def test_what_is_installed_is_what_is_pinned():
    wrong = {}
    for name, version in PINS.items():
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue  # some pins are another platform's
        if found != version:
            wrong[name] = found
    assert not wrong


def test_no_pin_names_a_build():
    assert not [version for version in PINS.values() if "+" in version]


def test_condas_environment_takes_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, lines = environment["dependencies"]
    assert python.startswith("python=3.11")
    assert pip == "pip"
    assert lines == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    assert environment["name"] == PROJECT["name"]


# --- make -------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """The files that `make` reads, and nothing set up."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "overrides.json", tmp_path / "tools")
    return tmp_path


def make(folder, *arguments, path=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MAKE"))}
    if path is not None:
        environment["PATH"] = path
    command = [shutil.which("make"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def a_python(folder, body):
    fake = folder / "python3"
    fake.write_text(f"#!/bin/sh\n{body}\n")
    fake.chmod(0o755)
    return str(fake)


def test_make_alone_lists_the_targets(clone):
    listed = make(clone).stdout
    assert all(f"make {target}" in listed for target in ("lab", "test", "lessons", "assets"))


def test_an_old_python_gets_one_clear_line(clone):
    old = a_python(clone, 'test "$1" = --version && echo Python 3.10.13 && exit; exit 1')
    done = make(clone, "test", f"PYTHON={old}")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert lines == [f"The course needs Python 3.11 or newer; {old} is Python 3.10.13"]
    assert not (clone / ".venv").exists()


def test_no_python_at_all_gets_one_clear_line(clone):
    tools = clone / "bin"
    tools.mkdir()
    for tool in ("sh", "test", "echo", "grep"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = make(clone, "lab", path=str(tools))
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert "needs Python 3.11 or newer, and there is none on the PATH" in lines[0]


def test_a_python_without_venv_gets_one_clear_line(clone):
    bare = a_python(clone, f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    done = make(clone, "test", f"PYTHON={bare}")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert "lacks the venv module" in lines[0]
    assert not (clone / ".venv").exists()


def test_an_install_that_was_cut_short_is_not_taken_for_done(clone):
    (clone / "constraints.txt").write_text("torch==0.0.0\n")
    done = make(clone, "test", f"PYTHON={sys.executable}", "BIN=/bin/false-is-not-a-folder")
    assert done.returncode != 0
    assert "Making .venv with Python" in done.stdout
    assert not (clone / ".venv" / "ready").exists()


# --- the network ------------------------------------------------------------------------------


def python(code, tmp_path, **environment):
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"COMPANION_OFFLINE_LOG": str(log)} | environment,
        capture_output=True,
        text=True,
    )
    return done, log.read_text() if log.exists() else ""


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import urllib.request as r; r.urlopen('http://example.org', timeout=1)",
    ],
)
def test_what_leaves_this_machine_is_refused_and_logged(code, tmp_path):
    swallowed = f"try:\n    {code}\nexcept OSError as error:\n    print(error)"
    done, log = python(swallowed, tmp_path)
    assert "the tests run with no network" in done.stdout
    assert "192.0.2.1" in log or "example.org" in log


def test_this_machine_may_talk_to_itself(tmp_path):
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(s.getsockname()); print('ok')"
    )
    done, log = python(code, tmp_path)
    assert done.stdout.strip() == "ok"
    assert log == ""


# --- the package, as the README shows it ------------------------------------------------------


def test_the_readmes_example_of_the_package_runs(tmp_path, capsys):
    torch.manual_seed(0)
    GPT(GPTConfig(n_layer=1, n_head=2, n_embd=8)).save_pretrained(tmp_path)
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    exec(example.replace('"gpt2"', repr(str(tmp_path))), {})
    probes, texts = capsys.readouterr().out.splitlines()[:2]
    assert probes == re.search(r"# (0\.0 .*)", example)[1]
    assert texts.startswith("[tensor([  464,  3280")
