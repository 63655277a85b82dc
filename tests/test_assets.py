"""companion.assets: the right bytes or an error, and no network where none was asked for.

Nothing here leaves the machine. What is downloaded comes from a small server on 127.0.0.1; every
other address would fail the test that asked for it.
"""

import gc
import hashlib
import json
import os
import pickle
import pydoc_data.topics
import re
import socket
import subprocess
import sys
import sysconfig
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import numpy as np
import pooch
import pytest
import safetensors.numpy
import tiktoken
import tiktoken_ext.openai_public

from companion import assets
from companion.assets import __main__ as command_line
from companion.assets import files, models, texts

REAL_ASSETS = os.environ.get("COMPANION_ASSETS")
MADE = "One line.\r\nAnother, of naïve “quotes”\rand a lone return.\n".encode()
COMMIT = "c0ffee" * 6 + "beef"

# A failed download leaves its socket to the garbage collector: pooch does not close the response.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

connections: list[str] = []


def _watch(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        connections.append(str(arguments[1]))  # the address
    elif event == "socket.getaddrinfo":
        connections.append(str(arguments[0]))  # the host


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Every test starts with no assets, empty caches of its own, and a hub that nobody serves."""
    for variable in ("COMPANION_ASSETS", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    use_hub(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    connections.clear()
    yield
    assert [address for address in connections if "127.0.0.1" not in address] == []
    if connections:
        gc.collect()  # so that such a socket is closed here, and not in another file's test


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """An empty folder named by COMPANION_ASSETS."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setenv("COMPANION_ASSETS", str(folder))
    return folder


@pytest.fixture
def server():
    """A server of pages {path: (status, headers, body)}; `asked` lists what was requested."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            status, headers, body = pages.get(path, (404, {}, b"no such page"))
            asked.append((self.command, path))
            self.send_response(status)
            for name, value in ({"Content-Length": len(body)} | headers).items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    pages, asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.pages, http.asked = pages, asked
        http.url = f"http://127.0.0.1:{http.server_port}"
        thread = Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http
        http.shutdown()
        thread.join()


@pytest.fixture
def made(server, monkeypatch):
    """A text named "made" among the pinned ones, served at /made.txt."""
    server.pages["/made.txt"] = (200, {}, MADE)
    pin = files.Pin("made", "made.txt", f"{server.url}/made.txt", len(MADE), sha256(MADE))
    monkeypatch.setitem(texts.PINS, "made", pin)
    return pin


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def use_hub(monkeypatch, url: str) -> None:
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def files_under(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def run_python(code: str, **environment: str) -> str:
    """Standard output of a fresh interpreter, which must succeed."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


# --- importing -----------------------------------------------------------------------------------


def test_importing_loads_no_client_starts_no_thread_and_makes_no_folder(tmp_path):
    code = """
import sys, threading
events = []
sys.addaudithook(lambda event, _: events.append(event))
import companion.assets
heavy = {"pooch", "requests", "tqdm", "tiktoken", "huggingface_hub", "safetensors", "numpy"}
print(sorted(heavy & set(sys.modules)), threading.active_count())
print(sorted({e for e in events if e.startswith(("socket.", "os.mkdir", "subprocess."))}))
print([m for m in sys.modules if m.startswith("companion.") and "assets" not in m])
"""
    assert run_python(code, HOME=str(tmp_path)).splitlines() == ["[] 1", "[]", "[]"]
    assert list(tmp_path.iterdir()) == []


# --- texts that come with Python -----------------------------------------------------------------


def test_python_docs_are_all_topics_in_the_order_of_their_keys(capsys, monkeypatch):
    topics = pydoc_data.topics.topics
    backwards = {key: topics[key] for key in sorted(topics, reverse=True)}
    monkeypatch.setattr(pydoc_data.topics, "topics", backwards)
    text = assets.text("python_docs")
    assert text.split("\n\n")[0] == topics[min(topics)].split("\n\n")[0]
    assert len(text) == sum(map(len, topics.values())) + 2 * (len(topics) - 1)
    assert all(topic in text for topic in topics.values())
    assert capsys.readouterr().out == f"text: python_docs, {len(text.encode()):,} bytes\n"


def test_python_source_is_the_standard_library_without_tests_or_anything_installed():
    text = assets.text("python_source")
    library = Path(sysconfig.get_path("stdlib"))
    for inside in ("argparse.py", "json/decoder.py", "this.py"):
        assert (library / inside).read_text(encoding="utf-8") in text
    for outside in (Path(pytest.__file__), library / "pydoc_data/topics.py", Path(__file__)):
        assert outside.read_text(encoding="utf-8") not in text
    assert "class TestCase(object):" in text  # unittest is the library's, its tests are not
    assert not re.search(r"^class Test\w+\((unittest\.)?TestCase\):\n    def test", text, re.M)
    assert text.index("class ABC(metaclass=ABCMeta)") < text.index("class ZipFile:")
    assert "\r" not in text
    assert len(text) > 5_000_000


def test_texts_of_python_are_the_same_in_every_process():
    code = """
import hashlib
from companion import assets
for name in ("python_docs", "python_source"):
    print(hashlib.sha256(assets.text(name).encode()).hexdigest())
"""
    runs = {run_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(runs) == 1


# --- texts that are fetched ----------------------------------------------------------------------


def test_an_unknown_text_is_answered_with_the_names():
    with pytest.raises(ValueError, match=r"'shakespeare' is none of python_docs.* tinyshakespeare"):
        assets.text("shakespeare")


def test_only_a_text_that_needs_no_network_can_be_a_fallback():
    for fallback in ("tinyshakespeare", "nonsense", ""):
        with pytest.raises(ValueError, match="is none of python_docs, python_source"):
            assets.text("taylorswift", fallback=fallback)
        with pytest.raises(ValueError, match="is none of python_docs, python_source"):
            assets.text("python_docs", fallback=fallback)


def test_a_text_is_fetched_once_and_is_exact_to_the_byte(made, server, capsys):
    for _ in range(2):
        assert assets.text("made").encode() == MADE
        assert capsys.readouterr().out == f"text: made, {len(MADE)} bytes\n"
    assert server.asked == [("GET", "/made.txt")]
    assert connections, "the watch on connections sees none"


def test_a_copy_in_COMPANION_ASSETS_is_used_before_cache_and_network(made, copies, tmp_path):
    (copies / "made.txt").write_bytes(MADE)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/made.txt").write_bytes(b"never looked at")
    assert assets.text("made").encode() == MADE
    assert connections == []


def test_a_copy_in_the_cache_is_used_before_the_network(made, copies, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/made.txt").write_bytes(MADE)
    assert assets.text("made").encode() == MADE
    assert connections == []


def test_the_cache_is_the_systems_own_where_COMPANION_CACHE_is_not_set(monkeypatch):
    monkeypatch.delenv("COMPANION_CACHE")
    assert files.cache_folder() == pooch.os_cache("first-questions")


def test_a_fallback_touches_no_network_and_is_announced(made, server, capsys):
    text = assets.text("made", fallback="python_docs")
    assert text == texts.python_docs()
    assert capsys.readouterr().out == (
        f"text: python_docs, {len(text.encode()):,} bytes in place of made, which is not on this "
        "machine (python -m companion.assets made fetches it)\n"
    )
    assert connections == []
    assert server.asked == []


def test_a_fallback_is_not_used_where_the_text_is_on_this_machine(made, copies, capsys):
    (copies / "made.txt").write_bytes(MADE)
    assert assets.text("made", fallback="python_docs").encode() == MADE
    assert capsys.readouterr().out == f"text: made, {len(MADE)} bytes\n"


@pytest.mark.parametrize("fallback", [None, "python_docs"])
@pytest.mark.parametrize("place", ["copies", "cache"])
@pytest.mark.parametrize("damaged", [MADE[:-1], MADE + b"\n", MADE.replace(b"One", b"one"), b""])
def test_an_altered_text_is_an_error_whatever_the_fallback(
    made, server, copies, tmp_path, place, damaged, fallback, capsys
):
    path = tmp_path / place / "made.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged)
    with pytest.raises(assets.AssetError) as raised:
        assets.text("made", fallback=fallback)
    said = str(raised.value)
    for part in (str(path), f"{len(damaged)} bytes", f"{len(MADE)} bytes"):
        assert part in said
    assert sha256(damaged)[:12] in said
    assert made.sha256[:12] in said
    assert path.read_bytes() == damaged
    assert server.asked == []
    assert capsys.readouterr().out == ""

    assert f"delete that file, then run: python -m companion.assets {made.asset}" in said
    path.unlink()
    assert command_line.main(["made"]) == 0


@pytest.mark.parametrize("fallback", [None, "python_docs"])
def test_a_copy_that_cannot_be_read_is_an_error_not_a_missing_file(made, copies, fallback):
    (copies / "made.txt").symlink_to("gone")
    with pytest.raises(assets.AssetError, match=r"cannot be read.*\n  where: .*made.txt"):
        assets.text("made", fallback=fallback)
    (copies / "made.txt").unlink()
    (copies / "made.txt").mkdir()
    with pytest.raises(assets.AssetError, match=r"cannot be read.*\n  where: .*made.txt"):
        assets.text("made", fallback=fallback)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ((200, {}, MADE.upper()), "hash"),
        ((200, {"Content-Length": len(MADE) + 9}, MADE), "IncompleteRead|broken"),
        ((200, {"Content-Length": len(MADE)}, MADE[:20]), "IncompleteRead|broken"),
        ((200, {}, MADE[:20]), "hash"),
        ((404, {}, b"no such page"), "404"),
        ((500, {}, MADE), "500"),
    ],
)
def test_a_download_that_goes_wrong_is_an_error_and_leaves_nothing(
    made, server, tmp_path, page, reason
):
    server.pages["/made.txt"] = page
    with pytest.raises(assets.AssetError, match=reason) as raised:
        assets.text("made")
    assert made.url in str(raised.value)
    assert "python -m companion.assets made" in str(raised.value)
    assert str(tmp_path / "cache") in str(raised.value)
    assert files_under(tmp_path) == []


def test_a_server_that_is_gone_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    url = f"http://127.0.0.1:{closed_port()}/made.txt"
    monkeypatch.setitem(texts.PINS, "made", files.Pin("made", "made.txt", url, 1, sha256(b"x")))
    with pytest.raises(assets.AssetError, match="not on this machine and could not be fetched"):
        assets.text("made")
    assert files_under(tmp_path) == []


def test_COMPANION_ASSETS_that_names_no_folder_is_an_error_for_every_asset(monkeypatch, tmp_path):
    monkeypatch.setenv("COMPANION_ASSETS", str(tmp_path / "nowhere"))
    for use in (
        lambda: assets.text("taylorswift", fallback="python_docs"),
        assets.encoding,
        lambda: assets.model_folder("gpt2"),
        assets.at_hand,
    ):
        with pytest.raises(assets.AssetError, match="COMPANION_ASSETS names no folder"):
            use()
    assert connections == []


@pytest.mark.parametrize("name", ["taylorswift", "tinyshakespeare"])
def test_the_real_text_is_the_pinned_one(name, monkeypatch):
    if not REAL_ASSETS or not Path(REAL_ASSETS, f"{name}.txt").exists():
        pytest.skip(f"COMPANION_ASSETS has no {name}.txt")
    monkeypatch.setenv("COMPANION_ASSETS", REAL_ASSETS)
    text = assets.text(name)
    assert len(text.encode()) == texts.PINS[name].size
    assert {"taylorswift": "Swift", "tinyshakespeare": "First Citizen:"}[name] in text[:200]


# --- GPT-2's encoding ----------------------------------------------------------------------------


@pytest.fixture
def made_encoding(server, monkeypatch):
    """Two made files in place of GPT-2's, served; tiktoken itself replaced by what it was told."""
    pins = []
    for file, data in (("aaaa", b"merges"), ("bbbb", b"ranks")):
        server.pages[f"/{file}"] = (200, {}, data)
        pins.append(
            files.Pin("gpt2-encoding", file, f"{server.url}/{file}", len(data), sha256(data))
        )
    monkeypatch.setitem(files.ENCODINGS, "gpt2", tuple(pins))
    monkeypatch.setattr(
        tiktoken, "get_encoding", lambda name: (name, os.environ["TIKTOKEN_CACHE_DIR"])
    )
    return {"aaaa": b"merges", "bbbb": b"ranks"}


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


def test_the_pins_of_the_encoding_are_those_in_tiktokens_source(monkeypatch):
    asked = {}
    public = tiktoken_ext.openai_public
    monkeypatch.setattr(
        public, "data_gym_to_mergeable_bpe_ranks", lambda **named: asked.update(named)
    )
    public.gpt2()
    ours = [(pin.url, pin.sha256) for pin in files.ENCODINGS["gpt2"]]
    assert ours == [
        (asked["vocab_bpe_file"], asked["vocab_bpe_hash"]),
        (asked["encoder_json_file"], asked["encoder_json_hash"]),
    ]
    for pin in files.ENCODINGS["gpt2"]:  # tiktoken.load.read_file_cached
        assert pin.file == hashlib.sha1(pin.url.encode()).hexdigest()


def test_an_unknown_encoding_is_answered_with_the_names():
    with pytest.raises(ValueError, match="'cl100k_base' is none of gpt2"):
        assets.encoding("cl100k_base")


def test_the_encoding_is_looked_for_in_three_folders_in_order(
    made_encoding, copies, tmp_path, monkeypatch
):
    write(tmp_path / "cache/tiktoken", made_encoding)
    assert assets.encoding() == ("gpt2", str(tmp_path / "cache/tiktoken"))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(write(tmp_path / "own", made_encoding)))
    assert assets.encoding() == ("gpt2", str(tmp_path / "own"))
    write(copies / "tiktoken", made_encoding)
    assert assets.encoding() == ("gpt2", str(copies / "tiktoken"))
    assert connections == []


def test_half_an_encoding_is_passed_over_for_a_whole_one(made_encoding, copies, tmp_path):
    write(copies / "tiktoken", {"aaaa": b"merges"})
    write(tmp_path / "cache/tiktoken", made_encoding)
    assert assets.encoding() == ("gpt2", str(tmp_path / "cache/tiktoken"))
    assert connections == []


def test_what_the_encoding_lacks_is_fetched_into_the_last_folder(
    made_encoding, server, copies, tmp_path
):
    cache = write(tmp_path / "cache/tiktoken", {"aaaa": b"merges"})
    assert assets.encoding() == ("gpt2", str(cache))
    assert server.asked == [("GET", "/bbbb")]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == made_encoding
    assert files_under(copies) == []


@pytest.mark.parametrize("place", ["copies/tiktoken", "own", "cache/tiktoken"])
@pytest.mark.parametrize("damaged", [b"merge", b"mergers", b"MERGES"])
def test_an_altered_encoding_is_an_error_and_stays_as_it_is(
    made_encoding, server, copies, tmp_path, monkeypatch, place, damaged
):
    if place == "own":
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / place))
    write(tmp_path / place, made_encoding | {"aaaa": damaged})
    with pytest.raises(assets.AssetError, match="aaaa is altered or cut short"):
        assets.encoding()
    assert (tmp_path / place / "aaaa").read_bytes() == damaged
    assert server.asked == []


@pytest.mark.parametrize("before", [None, "", "own"])
def test_the_environment_is_as_before_after_success_and_failure(
    made_encoding, tmp_path, monkeypatch, before
):
    if before is not None:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", before and str(tmp_path / before))
    environment = dict(os.environ)
    assets.encoding()
    assert dict(os.environ) == environment

    def fail(name):
        raise KeyError(name)

    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    with pytest.raises(KeyError):
        assets.encoding()
    assert dict(os.environ) == environment


def test_an_encoding_out_of_reach_is_an_error_that_says_what_to_do(made_encoding, server, tmp_path):
    server.pages.clear()
    with pytest.raises(assets.AssetError, match=r"run: python -m companion.assets gpt2-encoding"):
        assets.encoding()
    assert files_under(tmp_path) == []


def test_the_real_encoding_is_gpt2s(monkeypatch):
    if not REAL_ASSETS or not Path(REAL_ASSETS, "tiktoken").is_dir():
        pytest.skip("COMPANION_ASSETS has no tiktoken/")
    monkeypatch.setenv("COMPANION_ASSETS", REAL_ASSETS)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})  # read the files, whoever did so before
    gpt2 = assets.encoding()
    assert gpt2.n_vocab == 50257
    assert gpt2.encode("Hello world") == [15496, 995]  # as in the GPT-2 release
    assert connections == []
    for pin in files.ENCODINGS["gpt2"]:
        assert Path(REAL_ASSETS, "tiktoken", pin.file).stat().st_size == pin.size


# --- released models -----------------------------------------------------------------------------

WEIGHTS = safetensors.numpy.save({"wte.weight": np.arange(60, dtype=np.float32).reshape(5, 12)})
MODEL = {
    "config.json": b'{"n_layer": 1}',
    "model.safetensors": WEIGHTS,
    "vocab.json": b"{}",
}


def key(name: str, data: bytes) -> str:
    """What the hub keeps a file under: SHA-256 for large files, git's SHA-1 for small ones."""
    if name.endswith(".safetensors"):
        return sha256(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def cached(hub: Path, repo: str, contents: dict[str, bytes], commit: str = COMMIT) -> Path:
    """A model in the form of the hub's cache; returns the folder of its files."""
    home = hub / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for folder in (snapshot, home / "refs", home / "blobs"):
        folder.mkdir(parents=True)
    (home / "refs/main").write_text(commit)
    for name, data in contents.items():
        (home / "blobs" / key(name, data)).write_bytes(data)
        (snapshot / name).symlink_to(Path("../../blobs") / key(name, data))
    return snapshot


@pytest.fixture
def hub(tmp_path):
    return tmp_path / "hub"


@pytest.fixture
def hub_server(server, monkeypatch):
    """A hub that has openai-community/gpt2, pickles and all."""
    repo, served = "openai-community/gpt2", MODEL | {"pytorch_model.bin": b"pickle", "README": b""}
    use_hub(monkeypatch, server.url)
    tree = []
    for name, data in served.items():
        entry = {"type": "file", "path": name, "size": len(data), "oid": key("", data)}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
        tree.append(entry)
        server.pages[f"/{repo}/resolve/{COMMIT}/{name}"] = (
            200,
            {"ETag": f'"{key(name, data)}"', "X-Repo-Commit": COMMIT},
            data,
        )
    described = {"id": repo, "sha": COMMIT, "siblings": []}
    for path, answer in (("revision/main", described), (f"tree/{COMMIT}", tree)):
        page = (200, {"Content-Type": "application/json"}, json.dumps(answer).encode())
        server.pages[f"/api/models/{repo}/{path}"] = page
    return server


def test_an_unknown_model_is_answered_with_the_names():
    for name in ("gpt-2", "", "a/b/c"):
        with pytest.raises(ValueError, match="is none of gpt2, gpt2-medium"):
            assets.model_folder(name)
    assert connections == []


@pytest.mark.parametrize("repo", ["openai-community/gpt2", "gpt2"])
def test_a_model_in_the_hubs_cache_is_used_with_no_network(hub, repo):
    folder = cached(hub, repo, MODEL)
    assert assets.model_folder("gpt2") == folder
    assert connections == []


def test_any_other_model_is_known_by_owner_and_name(hub):
    folder = cached(hub, "someone/something", MODEL)
    assert assets.model_folder("someone/something") == folder
    assert connections == []


def test_a_model_is_pinned_by_its_commit(hub, monkeypatch):
    old, new = "1" * 40, "2" * 40
    pinned = cached(hub, "someone/something", MODEL, commit=old)
    (hub / "models--someone--something/refs/main").write_text(new)
    assert assets.model_folder("someone/something", revision=old) == pinned
    assert connections == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # else it tries for 20 s
    with pytest.raises(assets.AssetError):
        assets.model_folder("someone/something")
    with pytest.raises(assets.AssetError, match=f"revision='{new}'"):
        assets.model_folder("someone/something", revision=new)


@pytest.mark.parametrize("name", list(MODEL))
@pytest.mark.parametrize("change", ["one bit", "cut short", "too long", "empty"])
def test_an_altered_file_in_the_hubs_cache_is_an_error_that_names_it(hub, name, change):
    folder = cached(hub, "openai-community/gpt2", MODEL)
    data = MODEL[name]
    damaged = {
        "one bit": data[:-1] + bytes([data[-1] ^ 1]),
        "cut short": data[:-1],
        "too long": data + b"\n",
        "empty": b"",
    }[change]
    blob = (folder / name).resolve()
    blob.write_bytes(damaged)
    with pytest.raises(assets.AssetError) as raised:
        assets.model_folder("gpt2")
    for part in (str(folder / name), f"delete {blob}", "python -m companion.assets gpt2"):
        assert part in str(raised.value)
    assert blob.read_bytes() == damaged
    assert connections == []


def test_a_file_in_the_hubs_cache_that_cannot_be_read_is_an_error_that_names_it(hub, monkeypatch):
    folder = cached(hub, "openai-community/gpt2", MODEL)

    def fail(*_):
        raise PermissionError("not for you")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    with pytest.raises(assets.AssetError, match="unreadable: not for you") as raised:
        assets.model_folder("gpt2")
    assert str(folder / "config.json") in str(raised.value)


def test_a_file_beside_the_model_that_was_not_asked_for_is_not_read(hub):
    folder = cached(hub, "openai-community/gpt2", MODEL | {"pytorch_model.bin": b"pickle"})
    (folder / "pytorch_model.bin").resolve().write_bytes(b"altered")
    assert assets.model_folder("gpt2") == folder


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["absent", "dangling"])
def test_a_model_half_in_the_cache_and_out_of_reach_is_an_error(hub, lacking, how):
    folder = cached(hub, "openai-community/gpt2", MODEL)
    ((folder / lacking).resolve() if how == "dangling" else folder / lacking).unlink()
    assert not assets.at_hand()["gpt2"]
    with pytest.raises(assets.AssetError, match=r"python -m companion.assets gpt2"):
        assets.model_folder("gpt2")


def test_a_model_out_of_reach_is_an_error_with_both_ways_out(tmp_path):
    with pytest.raises(assets.AssetError) as raised:
        assets.model_folder("gpt2-medium")
    said = str(raised.value)
    for part in (
        "gpt2-medium at main is not on this machine",
        "openai-community/gpt2-medium",
        "run: python -m companion.assets gpt2-medium",
        "models/gpt2-medium in a folder that COMPANION_ASSETS names",
    ):
        assert part in said


def test_a_model_is_fetched_without_its_pickles_and_only_once(hub_server, capsys):
    folder = assets.model_folder("gpt2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    asked = len(hub_server.asked)
    assert not [path for _, path in hub_server.asked if "pytorch" in path or "README" in path]
    assert assets.model_folder("gpt2") == folder
    assert len(hub_server.asked) == asked


@pytest.mark.parametrize("name", list(MODEL))
def test_doing_as_the_error_says_brings_an_altered_file_back(hub_server, hub, name):
    folder = assets.model_folder("gpt2")
    (folder / name).resolve().write_bytes(b"altered")
    with pytest.raises(assets.AssetError) as raised:
        assets.model_folder("gpt2")
    hub_server.asked.clear()
    Path(re.search(r"delete (\S+), then", str(raised.value))[1]).unlink()
    assert command_line.main(["gpt2"]) == 0
    assert (folder / name).read_bytes() == MODEL[name]
    fetched = {path for verb, path in hub_server.asked if verb == "GET" and "resolve" in path}
    assert fetched == {f"/openai-community/gpt2/resolve/{COMMIT}/{name}"}


def test_a_download_altered_on_its_way_is_an_error(hub_server):
    path = f"/openai-community/gpt2/resolve/{COMMIT}/model.safetensors"
    status, headers, data = hub_server.pages[path]
    hub_server.pages[path] = (status, headers, data[:-1] + b"!")
    with pytest.raises(assets.AssetError, match=r"model.safetensors is altered"):
        assets.model_folder("gpt2")


def test_a_repository_without_safetensors_is_an_error(hub_server):
    tree = f"/api/models/openai-community/gpt2/tree/{COMMIT}"
    status, headers, data = hub_server.pages[tree]
    kept = [entry for entry in json.loads(data) if entry["path"] != "model.safetensors"]
    hub_server.pages[tree] = (status, headers, json.dumps(kept).encode())
    with pytest.raises(assets.AssetError, match=r"config.json or the safetensors are missing"):
        assets.model_folder("gpt2")


def test_HF_HOME_and_HF_HUB_OFFLINE_are_honoured(tmp_path, server):
    folder = cached(tmp_path / "home/hub", "openai-community/gpt2", MODEL)
    code = """
from companion import assets
print(assets.model_folder("gpt2"))
try:
    assets.model_folder("gpt2-medium")
except assets.AssetError as error:
    print("HF_HUB_OFFLINE" in str(error))
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    said = run_python(code, HF_ENDPOINT=server.url, **environment)
    assert said.splitlines() == [str(folder), "True"]
    assert server.asked == []


def test_a_plain_copy_of_a_model_is_used_before_cache_and_network(copies, hub):
    cached(hub, "openai-community/gpt2", MODEL)
    folder = write(copies / "models/gpt2", MODEL)
    assert assets.model_folder("gpt2") == folder
    assert connections == []


def test_a_plain_copy_does_not_serve_a_pinned_revision(copies, hub):
    write(copies / "models/gpt2", MODEL)
    pinned = cached(hub, "openai-community/gpt2", MODEL)
    assert assets.model_folder("gpt2", revision=COMMIT) == pinned


@pytest.mark.parametrize(
    "damaged", [WEIGHTS[:-1], WEIGHTS + b"\0", WEIGHTS[:20], b"", b"\xff" * 99]
)
def test_weights_that_do_not_end_where_their_header_says_are_an_error(copies, damaged):
    folder = write(copies / "models/gpt2", MODEL | {"model.safetensors": damaged})
    with pytest.raises(assets.AssetError, match=f"altered.* {len(damaged)} bytes") as raised:
        assets.model_folder("gpt2")
    assert str(folder / "model.safetensors") in str(raised.value)
    assert f"delete {folder}, then" in str(raised.value)
    assert connections == []


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_a_plain_copy_that_lacks_a_file_is_an_error_not_a_download(copies, lacking):
    contents = {name: data for name, data in MODEL.items() if name != lacking}
    folder = write(copies / "models/gpt2", contents)
    assert not assets.at_hand()["gpt2"]
    with pytest.raises(assets.AssetError, match="are missing") as raised:
        assets.model_folder("gpt2")
    assert str(folder) in str(raised.value)
    assert connections == []


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that brings a model; returns the folder of its files."""
    folder = write(tmp_path / "site/brings_a_model/model", MODEL)
    (folder.parent / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(models.PACKAGES, "gpt2", ("brings_a_model", sha256(WEIGHTS)))
    return folder


def test_a_model_that_a_package_brings_is_found_and_nothing_is_imported(package, hub):
    cached(hub, "openai-community/gpt2", MODEL)
    assert assets.model_folder("gpt2") == package
    assert assets.at_hand()["gpt2"]
    assert "brings_a_model" not in sys.modules
    assert connections == []


def test_a_plain_copy_comes_before_a_package_and_a_pinned_revision_is_not_the_packages(
    package, copies, hub
):
    pinned = cached(hub, "openai-community/gpt2", MODEL)
    assert assets.model_folder("gpt2", revision=COMMIT) == pinned
    copy = write(copies / "models/gpt2", MODEL)
    assert assets.model_folder("gpt2") == copy


def test_a_packages_weights_with_another_hash_are_an_error(package):
    altered = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])  # as long as its header says
    (package / "model.safetensors").write_bytes(altered)
    with pytest.raises(assets.AssetError, match=f"hash to {sha256(altered)[:12]}") as raised:
        assets.model_folder("gpt2")
    assert f"delete {package}, then" in str(raised.value)


def test_minilm_is_at_hand_where_its_package_is_installed():
    folder = assets.model_folder("all-MiniLM-L6-v2")
    assert folder.parent.name == models.PACKAGES["all-MiniLM-L6-v2"][0]
    assert (folder / "vocab.txt").is_file()
    assert connections == []


# --- what is at hand, and the command line -------------------------------------------------------


def test_at_hand_tells_what_is_here_and_touches_and_makes_nothing(made, copies, hub, tmp_path):
    nothing = assets.at_hand()
    here = [name for name, here in nothing.items() if here]
    assert here == ["python_docs", "python_source", "all-MiniLM-L6-v2"]  # two come with Python
    assert {"taylorswift", "tinyshakespeare", "gpt2-encoding", *models.MODELS} < nothing.keys()

    (copies / "made.txt").write_bytes(MADE)
    write(tmp_path / "cache/tiktoken", {pin.file: b"" for pin in files.ENCODINGS["gpt2"]})
    cached(hub, "openai-community/gpt2", MODEL)
    write(copies / "models/bert-base-uncased", MODEL)
    before = sorted(tmp_path.rglob("*"))
    here = [name for name, here in assets.at_hand().items() if here and not nothing[name]]
    assert here == ["made", "gpt2-encoding", "gpt2", "bert-base-uncased"]
    assert sorted(tmp_path.rglob("*")) == before
    assert connections == []


def test_half_an_encoding_is_not_at_hand(tmp_path):
    write(tmp_path / "cache/tiktoken", {files.ENCODINGS["gpt2"][0].file: b""})
    assert not assets.at_hand()["gpt2-encoding"]


def test_the_command_lists_every_asset_in_a_line_of_its_own(copies):
    (copies / "taylorswift.txt").write_bytes(MADE)
    run = subprocess.run(
        [sys.executable, "-m", "companion.assets"],
        env=os.environ | {"HF_HUB_CACHE": str(copies)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [re.fullmatch(r"(at hand|not here) +(\S+) +(\S.*)", x) for x in run.stdout.splitlines()]
    listed = {line[2]: line[1] == "at hand" for line in lines}
    assert listed == assets.at_hand()
    assert listed["taylorswift"]
    assert not listed["tinyshakespeare"]


def test_the_command_fetches_with_a_progress_bar(made, server, tmp_path, capsys):
    assert command_line.main(["made", "python_docs"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == ["text: made", "text: python_docs"]
    assert "100%" in err
    assert (tmp_path / "cache/made.txt").read_bytes() == MADE


def test_the_command_fails_with_the_message_and_no_traceback(made, server, capsys):
    server.pages.clear()
    assert command_line.main(["made"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: made is not on this machine and could not be fetched" in err
    assert "Traceback" not in err


def test_the_command_refuses_an_unknown_name_before_it_fetches_any(made, server, capsys):
    with pytest.raises(SystemExit) as raised:
        command_line.main(["made", "nonsense"])
    assert raised.value.code == 2
    assert "'nonsense' is none of python_docs" in capsys.readouterr().err
    assert server.asked == []


def test_an_asset_error_says_what_where_and_what_to_do_and_survives_pickling():
    error = assets.AssetError("the sky is missing", Path("above"), "look down")
    assert str(error) == "the sky is missing\n  where: above\n  to do: look down"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert not isinstance(error, OSError)
