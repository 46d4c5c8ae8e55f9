"""Damaged, foreign and hostile checkpoints: one line that names the thing, and nothing written."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import checkpoint
from model.atomic_folder import sha256
from model.convert import quantize_checkpoint
from model.errors import CheckpointError, ModelError
from model.shards import read_header
from model.verify import verify
from tests.published import SHAPES, published_tensors, write_files, write_float, write_published

State = dict[str, Tensor]
ROOT = Path(__file__).parents[2]
HEAD = "lm_head"


def change(name: str, edit: Callable[[Tensor], Tensor]) -> Callable[[State], None]:
    def mutate(state: State) -> None:
        state[name] = edit(state[name].clone()).contiguous()

    return mutate


def put(value: float) -> Callable[[Tensor], Tensor]:
    def edit(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return edit


# what is done to a sound state dict, and what the message must say
BAD_TENSORS: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing key": (lambda s: s.pop("transformer.h.1.mlp.fc_in.absmax"), r"h\.1\.mlp\.fc_in\.absmax is missing"),
    "missing layer": (lambda s: s.pop("transformer.ln_f.bias"), r"transformer\.ln_f\.bias is missing"),
    "extra key": (lambda s: s.update({"lm_head.extra": torch.zeros(1)}), r"lm_head\.extra is not expected"),
    "wrong shape": (
        change(f"{HEAD}.weight", lambda t: t[:, :-1]),
        r"lm_head\.weight is uint8 \[320, 63\].*\[320, 64\]",
    ),
    "float codes": (change(f"{HEAD}.weight", Tensor.float), r"lm_head\.weight is float32 .* expected uint8"),
    "bf16 code table": (
        change(f"{HEAD}.code", Tensor.bfloat16),
        r"lm_head\.code is bfloat16 \[256\] .*expected float32",
    ),
    "255-entry code": (change(f"{HEAD}.code", lambda t: t[:-1]), r"lm_head\.code is float32 \[255\].*\[256\]"),
    "short absmax": (change(f"{HEAD}.absmax", lambda t: t[:-1]), r"lm_head\.absmax is float32 \[4\].*\[5\]"),
    "NaN absmax": (change(f"{HEAD}.absmax", put(float("nan"))), r"lm_head\.absmax holds a negative, infinite or NaN"),
    "infinite absmax": (change(f"{HEAD}.absmax", put(float("inf"))), r"lm_head\.absmax holds"),
    "negative absmax": (change(f"{HEAD}.absmax", put(-1.0)), r"lm_head\.absmax holds"),
    "all-zero code": (change(f"{HEAD}.code", torch.zeros_like), r"lm_head\.code is all zero"),
    "unsorted code": (change(f"{HEAD}.code", lambda t: t.flip(0)), r"lm_head\.code is not an ascending table"),
    "code above 1": (change(f"{HEAD}.code", put(1.5)), r"lm_head\.code is not an ascending table"),
    "NaN bias": (change(f"{HEAD}.bias", put(float("nan"))), r"lm_head\.bias holds NaN"),
    "infinite LayerNorm": (
        change("transformer.ln_f.weight", put(float("inf"))),
        r"transformer\.ln_f\.weight holds NaN",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `src` (published .bin) and `native` (its conversion)."""
    folder = tmp_path_factory.mktemp("sound")
    write_published(folder / "src")
    quantize_checkpoint(folder / "src", folder / "native")
    return folder


@pytest.fixture
def native(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound native folder, to be damaged."""
    return Path(shutil.copytree(sound / "native", tmp_path / "native"))


def refused(action: Callable[[], object], match: str, error: type[ModelError] = CheckpointError) -> str:
    """Run `action`, which must raise one clear line; returns it."""
    with pytest.raises(error, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def convert_refused(src: Path, match: str, **options: Any) -> str:
    """Converting `src` is refused and writes nothing, not even the parents of the target."""
    out = src.parent / "out"
    message = refused(lambda: quantize_checkpoint(src, out / "dst", **options), match)
    assert not out.exists()
    return message


def seal(folder: Path) -> None:
    """Renew the manifest, as someone who damages a checkpoint on purpose would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {
        path.name: {"sha256": sha256(path), "size_bytes": path.stat().st_size}
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("as_safetensors", [False, True])
@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_bad_tensor_in_a_source_is_named(tmp_path: Path, case: str, as_safetensors: bool) -> None:
    mutate, match = BAD_TENSORS[case]
    state = published_tensors(SHAPES["tiny"])
    mutate(state)
    write_files(tmp_path / "src", SHAPES["tiny"])
    if as_safetensors:
        save_file(state, tmp_path / "src" / "model.safetensors")
    else:
        torch.save(state, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", match)


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_bad_tensor_in_a_native_folder_is_named_even_under_a_fresh_manifest(native: Path, case: str) -> None:
    mutate, match = BAD_TENSORS[case]
    path = native / "model.safetensors"
    metadata, _ = read_header(path)
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    mutate(state)
    save_file(state, path, metadata=metadata)
    seal(native)
    refused(lambda: checkpoint.load_weights(native), match)
    refused(lambda: verify(native), match)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_float_source_with_nan_or_infinite_weights_is_refused(tmp_path: Path, value: float) -> None:
    state = write_float(tmp_path / "src")
    state["transformer.h.0.mlp.fc_in.weight"][3, 5] = value
    save_file(state, tmp_path / "src" / "model.safetensors")
    convert_refused(tmp_path / "src", r"transformer\.h\.0\.mlp\.fc_in\.weight holds NaN or infinite")


@pytest.mark.parametrize("position", [10, 5000, -1])
def test_one_flipped_bit_is_found_by_its_hash(native: Path, position: int) -> None:
    data = bytearray((native / "model.safetensors").read_bytes())
    data[position] ^= 1
    (native / "model.safetensors").write_bytes(data)
    refused(lambda: checkpoint.load_weights(native), r"model\.safetensors is damaged: its sha256")
    refused(lambda: verify(native), r"model\.safetensors is damaged: its sha256")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_missing_or_cut_file_of_a_native_folder_is_named(native: Path, name: str) -> None:
    data = (native / name).read_bytes()
    (native / name).write_bytes(data[: len(data) // 2])
    refused(lambda: checkpoint.load_weights(native), rf"{name} has \d+ bytes, the manifest says {len(data)}")
    (native / name).unlink()
    refused(lambda: checkpoint.load_weights(native), rf"{name} is missing")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("as_safetensors", [False, True])
def test_a_truncated_source_is_named(tmp_path: Path, kept: float, as_safetensors: bool) -> None:
    write_published(tmp_path / "src", as_safetensors=as_safetensors)
    path = tmp_path / "src" / ("model.safetensors" if as_safetensors else "pytorch_model.bin")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    convert_refused(tmp_path / "src", path.name.replace(".", r"\."))


def test_a_truncated_shard_under_a_fresh_manifest_is_named(native: Path) -> None:
    path = native / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    seal(native)
    refused(lambda: checkpoint.load_weights(native), r"model\.safetensors has \d+ bytes, its header describes")


def test_a_stray_or_repeated_shard_is_refused(native: Path) -> None:
    shutil.copy(native / "model.safetensors", native / "model-00002-of-00002.safetensors")
    refused(lambda: checkpoint.load_weights(native), r"model-00002-of-00002\.safetensors is not in the manifest")
    seal(native)
    refused(lambda: checkpoint.load_weights(native), r"is in both .*model-00002-of-00002\.safetensors")


def test_a_key_twice_in_a_header_is_refused(native: Path) -> None:
    """The safetensors library takes the last one in silence."""
    path = native / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    entry = header[header.index(b'"lm_head.bias":') : header.index(b"}", header.index(b'"lm_head.bias":')) + 1]
    header = header[:-1] + b"," + entry + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    seal(native)
    refused(lambda: checkpoint.load_weights(native), r"the key 'lm_head\.bias' twice")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        ({"format": "gguf"}, "format is 'gguf', expected 'tertulia-8bit'"),
        ({"version": 2}, "version is 2, this program reads 1"),
        ({"version": True}, "version is True"),
        ({"block_size": 64}, "block_size is 64, the config says 4096"),
        ({"files": None}, "files is not a list"),
        ({"files": {"config.json": {"sha256": "0" * 64}}}, "files is not a list"),
        ({"files": {"config.json": {"sha256": "0" * 64, "size_bytes": 1}, "../x": {}}}, "files is not a list"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(native: Path, edit: dict[str, Any], match: str) -> None:
    manifest = json.loads((native / "manifest.json").read_text())
    (native / "manifest.json").write_text(json.dumps(manifest | edit))
    refused(lambda: checkpoint.load_weights(native), match)


def test_a_folder_without_a_manifest_says_how_to_convert_it(sound: Path, native: Path) -> None:
    refused(lambda: checkpoint.load_weights(sound / "src"), r"has no manifest\.json.*`tertulia quantize")
    (native / "manifest.json").write_text("{broken")
    refused(lambda: checkpoint.load_weights(native), r"manifest\.json is not valid JSON")
    refused(lambda: checkpoint.load_weights(native / "nowhere"), "nowhere is not a folder")


BAD_CONFIGS: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "broken": (b'{"model_type": "gptj",', r"config\.json is not valid JSON"),
    "empty": (b"", r"config\.json is not valid JSON"),
    "binary": (b"\xff\xfe\x00", r"config\.json is not valid JSON"),
    "deep": (b"[" * 100_000, r"config\.json is not valid JSON"),
    "list": (b"[1]", r"config\.json holds a JSON list"),
    "twice": (b'{"model_type": "gptj", "n_embd": 64, "n_embd": 32}', "the key 'n_embd' twice"),
    "other architecture": ({"model_type": "llama"}, "model_type is 'llama', expected a GPT-J"),
    "no architecture": ({"model_type": None}, "model_type is None"),
    "no such multiple": ({"n_head": 7}, "n_embd is 64, expected a multiple of n_head = 7"),
    "no layers": ({"n_layer": 0}, "n_layer is 0"),
    "layers as text": ({"n_layer": "2"}, "n_layer is '2'"),
    "layers as a truth value": ({"n_layer": True}, "n_layer is True"),
    "too wide": ({"n_embd": 2**40}, "n_embd is 1099511627776"),
    "too many layers": ({"n_layer": 10**9}, "n_layer is 1000000000"),
    "too many parameters": ({"n_embd": 65536, "n_layer": 1024, "n_head": 64}, r"describes \d+ parameters"),
    "odd rotary": ({"rotary_dim": 7}, "rotary_dim is 7"),
    "wide rotary": ({"rotary_dim": 18}, "rotary_dim is 18, expected an even integer from 2 to 16"),
    "id beyond the table": ({"eos_token_id": 320}, "eos_token_id is 320"),
    "other activation": ({"activation_function": "relu"}, "activation_function is 'relu'"),
    "tied": ({"tie_word_embeddings": True}, "tie_word_embeddings is true"),
    "epsilon": ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_is_named(tmp_path: Path, native: Path, case: str) -> None:
    edit, match = BAD_CONFIGS[case]
    write_published(tmp_path / "src")
    for folder in (tmp_path / "src", native):
        path = folder / "config.json"
        path.write_bytes(edit if isinstance(edit, bytes) else json.dumps(json.loads(path.read_text()) | edit).encode())
    seal(native)
    convert_refused(tmp_path / "src", match)
    refused(lambda: checkpoint.load_weights(native), match)


@pytest.mark.parametrize(("value", "match"), [(100, "block_size is 100"), ("big", "block_size is 'big'")])
def test_a_block_size_that_is_none_is_refused(native: Path, value: object, match: str) -> None:
    path = native / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_size": value}))
    seal(native)
    refused(lambda: checkpoint.load_weights(native), match)


class _RunsCode:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_runs_code_never_runs(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    state = published_tensors(SHAPES["tiny"])
    torch.save({**state, "extra": _RunsCode(tmp_path / "ran")}, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", r"its pickle names 'posix\.system'")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_is_never_unpickled(tmp_path: Path, protocol: int) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    bare = pickle.dumps(_RunsCode(tmp_path / "ran"), protocol=protocol)
    (tmp_path / "src" / "pytorch_model.bin").write_bytes(bare)
    convert_refused(tmp_path / "src", "neither safetensors nor a torch.save zip")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("extra", [{"epoch": 3}, {"nested": {"a": torch.zeros(1)}}, {7: torch.zeros(1)}])
def test_a_state_dict_with_other_things_in_it_is_refused(tmp_path: Path, extra: dict[Any, Any]) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    torch.save(published_tensors(SHAPES["tiny"]) | extra, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", f"the entry '{next(iter(extra))}' is not a tensor")


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.zeros(1).expand(10**6, 10**6), r"has the strides \[0, 0\], expected row-major"),
        (torch.zeros(320, 1, dtype=torch.uint8).expand(320, 64), r"has the strides \[1, 0\]"),
        (torch.zeros(64, 320, dtype=torch.uint8).T, r"has the strides \[1, 320\]"),
    ],
)
def test_a_tensor_that_is_larger_than_its_storage_is_refused(tmp_path: Path, tensor: Tensor, match: str) -> None:
    """A 1.5 kB file can declare 10^6 x 10^6 values, all of them the same four bytes."""
    write_files(tmp_path / "src", SHAPES["tiny"])
    torch.save(published_tensors(SHAPES["tiny"]) | {"lm_head.weight": tensor}, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", rf"lm_head\.weight .*{match}")


@pytest.mark.parametrize("name", ["two\nlines", "x" * 10_000, ""])
@pytest.mark.parametrize("as_safetensors", [False, True])
def test_a_hostile_name_stays_one_short_line(tmp_path: Path, name: str, as_safetensors: bool) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    state = {name: torch.zeros(1)}
    if as_safetensors:
        save_file(state, tmp_path / "src" / "model.safetensors")
    else:
        torch.save(state, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", "impossible name")


def repack(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Rewrite a zip with every entry edited."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, edit(name, data))


def test_a_storage_of_another_size_than_the_pickle_says_is_refused(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    repack(tmp_path / "src" / "pytorch_model.bin", lambda n, d: d[:-4] if n.endswith("data/0") else d)
    convert_refused(tmp_path / "src", r"the storage of transformer\.wte\.weight is 20476 bytes, expected 20480")


@pytest.mark.parametrize(
    ("pickled", "match"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "broken pickle"),  # a memo slot of 2^31: CPython's reader allocates 16 GB
        (b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "broken pickle|uses the instruction"),
        (b"\x80\x02(" + b"(" * 1000 + b".", "not a state dict"),
        (b"\x80\x02ctorch\n_C\nq\x00.", r"names 'torch\._C'"),
        (b"", "broken pickle"),
    ],
)
def test_a_crafted_pickle_is_refused_without_memory(tmp_path: Path, pickled: bytes, match: str) -> None:
    write_published(tmp_path / "src")
    repack(tmp_path / "src" / "pytorch_model.bin", lambda n, d: pickled if n.endswith("data.pkl") else d)
    convert_refused(tmp_path / "src", match)


_MEASURE = """
import sys
from pathlib import Path
from model.convert import quantize_checkpoint
from model.errors import ModelError

def peak_kb():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])

before = peak_kb()
try:
    quantize_checkpoint(sys.argv[1], sys.argv[2])
except ModelError as error:
    print(peak_kb() - before, error)
"""


def convert_measured(src: Path) -> tuple[int, str]:
    """Convert in a fresh process; (growth of its peak memory in MiB, message)."""
    command = [sys.executable, "-c", _MEASURE, str(src), str(src.parent / "out" / "dst")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    grown, _, message = done.stdout.strip().partition(" ")
    assert not (src.parent / "out").exists()
    return int(grown) // 1024, message


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads VmHWM from /proc")
def test_a_zip_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """390 kB that inflate to 400 MB, with sizes that agree with the pickle: torch.load would inflate them all."""
    write_files(tmp_path / "src", SHAPES["tiny"])
    path = tmp_path / "src" / "pytorch_model.bin"
    torch.save({"transformer.wte.weight": torch.zeros(400_000_000, dtype=torch.uint8)}, path)
    with zipfile.ZipFile(path) as archive:
        small = {name: archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size < 10_000}
        large = next(name for name in archive.namelist() if name not in small)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in small.items():
            archive.writestr(name, data)
        with archive.open(large, "w") as entry:
            for _ in range(400):
                entry.write(bytes(1_000_000))
    assert path.stat().st_size < 400_000
    grown_mib, message = convert_measured(tmp_path / "src")
    assert "zip bomb" in message
    assert str(path) in message
    assert grown_mib < 50


def test_compressed_entries_are_refused_even_when_small(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    path = tmp_path / "src" / "pytorch_model.bin"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(1000))
    convert_refused(tmp_path / "src", "the entry 'archive/data/999' is compressed")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    (tmp_path / "src" / "model.safetensors").write_bytes((2**26).to_bytes(8, "little") + b'{"a":')
    convert_refused(tmp_path / "src", r"model\.safetensors has 13 bytes, fewer than its header says")


def test_a_header_that_declares_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"lm_head.weight": entry}).encode()
    path = tmp_path / "src" / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    convert_refused(tmp_path / "src", r"its header describes 4000000000")


def test_what_is_no_checkpoint_at_all_is_said_plainly(tmp_path: Path) -> None:
    convert_refused(tmp_path / "nowhere", "nowhere does not exist")
    (tmp_path / "empty").mkdir()
    convert_refused(tmp_path / "empty", r"has no config\.json")
    write_files(tmp_path / "weightless", SHAPES["tiny"])
    convert_refused(tmp_path / "weightless", "expected one file of weights .*found none")
    weights = tmp_path / "weightless" / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    convert_refused(tmp_path / "weightless", "Git LFS pointer")
    weights.unlink()
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer, _use_new_zipfile_serialization=False)
    (tmp_path / "weightless" / "pytorch_model.bin").write_bytes(buffer.getvalue())
    convert_refused(tmp_path / "weightless", "old format")


def test_an_index_with_a_missing_or_outside_file_is_refused(tmp_path: Path) -> None:
    write_float(tmp_path / "src", num_shards=2)
    shard = tmp_path / "src" / "model-00002-of-00002.safetensors"
    shard.rename(tmp_path / "elsewhere.safetensors")
    convert_refused(tmp_path / "src", r"model-00002-of-00002\.safetensors is missing")
    index = tmp_path / "src" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shard.name, "../elsewhere.safetensors"))
    convert_refused(tmp_path / "src", "has no weight_map of file names")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_with_the_bytes_needed(sound: Path, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(150_000))
    message = refused(lambda: quantize_checkpoint(sound / "src", small_disk / "dst"), "the disk is full")
    assert str(small_disk / "dst") in message
    needed = int(message.split(" bytes are needed")[0].split()[-1])
    assert 160_000 < needed < 300_000
    assert [path.name for path in small_disk.iterdir()] == ["other"]


_LIMITED = """
import resource, sys
from model.convert import quantize_checkpoint
from model.errors import ModelError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    quantize_checkpoint(sys.argv[1], sys.argv[2])
except ModelError as error:
    print(error)
"""


def test_a_disk_that_fills_up_while_writing_leaves_nothing(sound: Path, tmp_path: Path) -> None:
    """What cannot be known before (quotas, another writer) is met in the middle of a shard."""
    command = [sys.executable, "-c", _LIMITED, str(sound / "src"), str(tmp_path / "new" / "dst")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"cannot write {tmp_path / 'new' / 'dst'}: the disk is full:" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(lambda: quantize_checkpoint(sound / "src", tmp_path / "file"), "file is a file, expected")
    refused(lambda: quantize_checkpoint(sound / "src", tmp_path / "file" / "dst"), "file is a file, expected")
    refused(lambda: quantize_checkpoint(sound / "src", "/proc/dst"), "cannot write /proc/dst")
