"""Damaged and foreign checkpoints: one line that names the thing, and nothing written."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import checkpoint
from model.shards import read_header
from model.verify import verify
from tests.model.refusing import convert_refused, refused, seal
from tests.published import SHAPES, published_tensors, write_files, write_float, write_published

State = dict[str, Tensor]
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
