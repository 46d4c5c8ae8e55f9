"""Names and folders to native folders; the hub is a real HTTP server on loopback that speaks its protocol."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model import checkpoint, hub, tokenizer_files
from model.download import choose_files
from model.errors import CheckpointError, HubError
from model.hub import MODELS, resolve
from model.manifest import is_native
from tests.model.test_checkpoint import contents
from tests.published import write_float, write_published

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEAD = "http://127.0.0.1:9"  # nothing listens on the discard port


class _Handler(BaseHTTPRequestHandler):
    server: "HubServer"
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        self.server.seen.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            files = self.server.files(name)
            if not files or revision not in self.server.revisions:
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound" if files else "RepoNotFound"})
            else:
                siblings = [self._sibling(n, d) for n, d in files.items()]
                self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        elif len(parts) == 5 and parts[2] == "resolve":
            data = self.server.files("/".join(parts[:2])).get(parts[4])
            if data is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            else:
                self._send_file(data)
        else:
            self._send(404, b"{}")

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data if name not in self.server.damaged else b"other").hexdigest()
        lfs = {"lfs": {"size": len(data), "sha256": digest, "pointerSize": 134}} if len(data) > 20_000 else {}
        return {"rfilename": name, "size": len(data), **lfs}

    def _send_file(self, data: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        begin = self.headers.get("Range")
        if begin is None:
            cut = self.server.cut_at if len(data) > self.server.cut_at else None
            self._send(200, data, headers, cut)
        elif self.server.down:
            self._send(500, b"")
        else:
            start = int(begin.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, data[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:  # the connection breaks in the middle of the file
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class HubServer(ThreadingHTTPServer):
    """Serves the folders under `root` as repositories owner/name."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.cut_at = 10**12  # files above this break off here
        self.down = False  # no download is continued
        self.damaged: set[str] = set()  # files whose sha256 is another than the one announced
        self.revisions = {"main", "float16", COMMIT}
        self.seen: list[tuple[str, str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str) -> dict[str, bytes]:
        folder = self.root / name
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_known_name_is_downloaded_and_converted_once(tmp_path: Path, server: HubServer) -> None:
    name = hub.RECOMMENDED
    write_published(server.root / name)
    (server.root / name / "README.md").write_text("card")
    (server.root / name / "flax_model.msgpack").write_bytes(bytes(1000))
    folder = resolve(name, cache=tmp_path / "cache", endpoint=server.url)
    checkpoint.load_weights(folder)
    manifest = checkpoint.read_manifest(folder)
    assert (manifest["source"]["name"], manifest["source"]["kind"]) == (name, "published 8-bit")
    fetched = {path.rpartition("/")[2] for command, path, _ in server.seen if "/resolve/" in path}
    assert fetched == {"config.json", "pytorch_model.bin", *tokenizer_files.FILES} - {
        "tokenizer.model",
        "added_tokens.json",
    }
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    asked = len(server.seen)
    assert resolve(name, cache=tmp_path / "cache", endpoint=DEAD) == folder
    assert len(server.seen) == asked


def test_an_interrupted_download_goes_on_where_it_was(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a run and in the next one: huggingface_hub itself begins its 6 GB again."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # what is written at once
    name = "mrm8488/bertin-gpt-j-6B-ES-8bit"
    write_published(server.root / name)
    server.cut_at, server.down = 100_000, True
    with pytest.raises(HubError, match=r"cannot be downloaded .* run again \(a download resumes\)"):
        resolve(name, cache=tmp_path / "cache", endpoint=server.url)
    server.seen.clear()
    server.down = False
    folder = resolve(name, cache=tmp_path / "cache", endpoint=server.url)
    checkpoint.load_weights(folder)
    gets = [(path.rpartition("/")[2], begin) for command, path, begin in server.seen if "/resolve/" in path]
    assert gets == [("pytorch_model.bin", "bytes=100000-")]


def test_a_file_that_arrives_damaged_is_not_used(tmp_path: Path, server: HubServer) -> None:
    write_published(server.root / hub.RECOMMENDED)
    server.damaged = {"pytorch_model.bin"}
    with pytest.raises(HubError, match=r"pytorch_model\.bin arrived damaged"):
        resolve(hub.RECOMMENDED, cache=tmp_path / "cache", endpoint=server.url)
    server.damaged = set()
    resolve(hub.RECOMMENDED, cache=tmp_path / "cache", endpoint=server.url)


def test_a_repository_without_a_tokenizer_takes_its_sibling_s(tmp_path: Path, server: HubServer) -> None:
    """hivemind/gpt-j-6B-8bit holds weights only."""
    name = "hivemind/gpt-j-6B-8bit"
    write_published(server.root / name)
    for file in tokenizer_files.FILES:
        (server.root / name / file).unlink(missing_ok=True)
    write_float(server.root / "EleutherAI/gpt-j-6B")
    folder = resolve(name, cache=tmp_path / "cache", endpoint=server.url)
    assert checkpoint.read_config(folder)["num_tokens"] == 300
    assert not any("EleutherAI" in path and "safetensors" in path for _, path, _ in server.seen)
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_a_known_name_brings_its_prompt_format_and_revision(tmp_path: Path, server: HubServer) -> None:
    for name in ("bertin-project/bertin-gpt-j-6B-alpaca", "EleutherAI/gpt-j-6B"):
        write_float(server.root / name, as_bin=True)
        folder = resolve(name, cache=tmp_path / "cache", endpoint=server.url)
        assert checkpoint.read_config(folder)["prompt_format"] == MODELS[name].prompt_format
    assert any(path.endswith("EleutherAI/gpt-j-6B/revision/float16") for _, path, _ in server.seen)


def test_any_gpt_j_of_the_hub_can_be_named_with_a_revision(tmp_path: Path, server: HubServer) -> None:
    write_float(server.root / "someone/own", num_shards=2)
    folder = resolve(f"someone/own@{COMMIT}", cache=tmp_path / "cache", endpoint=server.url)
    assert checkpoint.read_manifest(folder)["source"]["name"] == f"someone/own@{COMMIT}"
    with pytest.raises(HubError, match="there is no revision 'nope' of 'someone/own'"):
        resolve("someone/own@nope", cache=tmp_path / "cache", endpoint=server.url)


def test_unknown_names_and_repositories_of_other_things_are_named(tmp_path: Path, server: HubServer) -> None:
    (server.root / "someone/dataset").mkdir(parents=True)
    (server.root / "someone/dataset/data.csv").write_text("a,b")
    for name, match in (
        ("someone/nothing", "there is no 'someone/nothing' on the hub; known models: embedded"),
        ("someone/dataset", "someone/dataset has no weights"),
    ):
        with pytest.raises(HubError, match=match) as caught:
            resolve(name, cache=tmp_path / "cache", endpoint=server.url)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_hub_name_without_a_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=rf"{hub.RECOMMENDED} is no folder here and cannot be downloaded") as caught:
        resolve(hub.RECOMMENDED, cache=tmp_path / "cache", endpoint=DEAD)
    assert "\n" not in str(caught.value)
    assert "check the network" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_native_folder_is_itself_and_a_source_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.convert import quantize_checkpoint

    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    before = contents(tmp_path / "native")
    assert resolve(tmp_path / "native") == tmp_path / "native"
    assert contents(tmp_path / "native") == before
    monkeypatch.chdir(tmp_path)
    assert resolve("native") == Path("native")
    with pytest.raises(CheckpointError, match="run `tertulia quantize"):
        resolve(str(tmp_path / "src"))


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./here", "nothing", "a/b/c", "../up", "", "owner/", "owner/na me"]
)
def test_what_is_neither_a_folder_nor_a_name_is_said_plainly(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve(name, cache=tmp_path / "cache", endpoint=DEAD)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_the_weights_of_a_repository_are_chosen_once() -> None:
    """EleutherAI/gpt-j-6B also holds Flax, TensorFlow and Rust weights: 70 GB that nobody wants."""
    other = ["flax_model.msgpack", "tf_model.h5", "rust_model.ot", "training_args.bin", "sub/model.safetensors"]
    files = ["config.json", "pytorch_model.bin", "vocab.json", "merges.txt", *other]
    assert choose_files("x", files, weights=True) == ["config.json", "vocab.json", "merges.txt", "pytorch_model.bin"]
    both = [*files, "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    assert not any(file.endswith(".bin") for file in choose_files("x", both, weights=True))
    assert choose_files("x", files, weights=False) == ["vocab.json", "merges.txt"]


def test_the_embedded_model_is_the_folder_beside_the_code() -> None:
    folder = Path(hub.__file__).parent / "embedded"
    if not is_native(folder):
        pytest.skip("the embedded model is not there yet")
    assert resolve("embedded") == folder
    checkpoint.load_weights(folder)
