"""Conversion into the native format and back out: codes kept, errors bounded, nothing half done."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import checkpoint, convert, dynamic8, legacy, tokenizer_files
from model.convert import PIECE, quantize_checkpoint, quantize_in_pieces
from model.errors import CheckpointError, TokenizerError
from model.export import export
from model.sources import open_source
from model.verify import verify
from tests.model.test_checkpoint import contents
from tests.published import (
    SHAPES,
    Shape,
    float_tensors,
    published_tensors,
    write_float,
    write_published,
    write_published_streamed,
)

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("as_safetensors", [False, True])
def test_published_codes_scales_and_tables_stay_bit_for_bit(tmp_path: Path, as_safetensors: bool) -> None:
    """The stored table begins with -1.0, unlike today's: regenerating it, or requantising, would be seen here."""
    saved = write_published(tmp_path / "src", as_safetensors=as_safetensors)
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst")
    loaded = checkpoint.load_weights(tmp_path / "dst")
    assert all(torch.equal(loaded[name], saved[name]) for name in loaded)
    assert loaded["lm_head.code"][0] == -1.0
    assert set(saved) - set(loaded) == {f"transformer.h.{n}.attn.{b}" for n in (0, 1) for b in ("bias", "masked_bias")}
    report = verify(tmp_path / "dst", against=tmp_path / "src")
    assert report.identical
    assert report.max_abs_error == 0


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("as_bin", "num_shards", "legacy_buffers"), [(False, 1, False), (False, 3, False), (True, 1, True), (True, 2, True)]
)
def test_float_sources_of_every_kind_are_quantised(
    tmp_path: Path, dtype: torch.dtype, as_bin: bool, num_shards: int, legacy_buffers: bool
) -> None:
    saved = write_float(tmp_path / "src", dtype=dtype, as_bin=as_bin, num_shards=num_shards, legacy=legacy_buffers)
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst", 256)
    loaded = checkpoint.load_weights(tmp_path / "dst")
    for module in SHAPES["tiny"].weights():
        whole = dynamic8.quantize(saved[f"{module}.weight"].float(), 256)
        assert torch.equal(loaded[f"{module}.weight"], whole.codes)
        assert torch.equal(loaded[f"{module}.absmax"], whole.absmax)
    assert torch.equal(loaded["transformer.ln_f.bias"], saved["transformer.ln_f.bias"].float())
    report = verify(tmp_path / "dst", against=tmp_path / "src")
    assert report.identical is False
    assert report.relative_rms_error is not None
    assert report.relative_rms_error < 0.02
    assert report.source["kind"] == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("block_size", [64, 4096])
def test_pieces_of_a_large_matrix_give_what_the_whole_gives(block_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that ended inside a block would scale both halves differently."""
    assert all(PIECE % size == 0 for size in dynamic8.BLOCK_SIZES)
    monkeypatch.setattr(convert, "PIECE", 2 * 4096)
    values = torch.randn(70, 301, generator=torch.Generator().manual_seed(0))  # blocks across rows, the last one short
    codes, absmax = quantize_in_pieces("w", values, block_size)
    whole = dynamic8.quantize(values, block_size)
    assert torch.equal(codes, whole.codes)
    assert torch.equal(absmax, whole.absmax)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "weights"])
def test_the_format_is_known_from_the_first_bytes_not_the_name(tmp_path: Path, name: str) -> None:
    for source, as_safetensors in (("a", True), ("b", False)):
        write_published(tmp_path / source, as_safetensors=as_safetensors)
        weights = tmp_path / source / ("model.safetensors" if as_safetensors else "pytorch_model.bin")
        weights.rename(weights.with_name(name))
        quantize_checkpoint(tmp_path / source, tmp_path / f"{source}8")
    a, b = contents(tmp_path / "a8"), contents(tmp_path / "b8")
    assert a["model.safetensors"] == b["model.safetensors"]


def test_one_weight_file_can_be_named_directly(tmp_path: Path) -> None:
    write_float(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src" / "model.safetensors", tmp_path / "dst")
    assert checkpoint.is_native(tmp_path / "dst")


def test_reading_a_torch_file_as_data_equals_torch_load(tmp_path: Path) -> None:
    """The oracle of our own reader: parameters, views into one storage, scalars, all dtypes, a module's state dict."""
    shared = torch.arange(12.0)
    linear = torch.nn.Linear(3, 5).half()
    state = {
        "whole": shared,
        "view": shared[4:10].view(2, 3),
        "parameter": torch.nn.Parameter(torch.randn(3).bfloat16()),
        "scalar": torch.tensor(7),
        "mask": torch.tensor([[True, False]]),
        "one_row": torch.randn(1, 4),
        **linear.state_dict(prefix="linear."),
    }
    torch.save(state, tmp_path / "x.bin")
    loaded = torch.load(tmp_path / "x.bin", weights_only=True, mmap=True)
    stored = legacy.read_directory(tmp_path / "x.bin")
    assert list(stored) == list(loaded)
    data = (tmp_path / "x.bin").read_bytes()
    for name, entry in stored.items():
        values = torch.frombuffer(bytearray(data[entry.offset :][: entry.size_bytes]), dtype=entry.dtype)
        assert torch.equal(values.view(entry.shape), loaded[name].detach()), name
    torch.save(linear.state_dict(), tmp_path / "module.bin")
    assert list(legacy.read_directory(tmp_path / "module.bin")) == ["weight", "bias"]


def test_the_streamed_generator_writes_a_file_that_torch_load_reads_too(tmp_path: Path) -> None:
    write_published_streamed(tmp_path / "src", SHAPES["tiny"])
    loaded = torch.load(tmp_path / "src" / "pytorch_model.bin", weights_only=True, mmap=True)
    assert {n: t.shape for n, t in loaded.items()} == {n: t.shape for n, t in published_tensors(SHAPES["tiny"]).items()}
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst")
    native = checkpoint.load_weights(tmp_path / "dst")
    assert all(torch.equal(native[name], loaded[name]) for name in native)


def test_converting_twice_gives_identical_bytes(tmp_path: Path) -> None:
    write_float(tmp_path / "src", dtype=torch.float16, num_shards=2)
    for name in ("a", "b"):
        quantize_checkpoint(tmp_path / "src", tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_tokenizer_comes_along_with_its_flaws_mended(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst", prompt_format="alpaca-es")
    config = checkpoint.read_config(tmp_path / "dst")
    assert config["num_tokens"] == SHAPES["tiny"].num_tokens == 300
    assert config["prompt_format"] == "alpaca-es"
    settings = json.loads((tmp_path / "dst" / "tokenizer_config.json").read_text())
    assert (settings["model_max_length"], settings["pad_token"]) == (128, "<|endoftext|>")
    assert json.loads((tmp_path / "dst" / "generation_config.json").read_text())["pad_token_id"] == 299
    assert "model_max_length" in (tmp_path / "src" / "tokenizer_config.json").read_text()
    loaded = AutoTokenizer.from_pretrained(tmp_path / "dst")
    text = "El sentido de la vida es ñandú 🙂"
    assert loaded.decode(loaded(text).input_ids) == text


def test_names_of_padding_rows_do_not_count_as_tokens(tmp_path: Path) -> None:
    """GPT-J's tokenizer lists <|extratoken_1|> ...: counted, their untrained rows would be sampled."""
    write_published(tmp_path / "src")
    added = {f"<|extratoken_{n}|>": 299 + n for n in range(1, 21)}
    fields = json.loads((tmp_path / "src" / "tokenizer.json").read_text())
    fields["added_tokens"] += [{"id": i, "content": name, "special": False} for name, i in added.items()]
    (tmp_path / "src" / "tokenizer.json").write_text(json.dumps(fields))
    assert tokenizer_files.count_tokens(tmp_path / "src") == 300
    (tmp_path / "src" / "tokenizer.json").unlink()
    (tmp_path / "src" / "added_tokens.json").write_text(json.dumps(added))
    assert tokenizer_files.count_tokens(tmp_path / "src") == 300


def test_a_source_without_a_tokenizer_takes_one_from_another_folder(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    write_published(tmp_path / "other")
    for name in tokenizer_files.FILES:
        (tmp_path / "src" / name).unlink(missing_ok=True)
    with pytest.raises(TokenizerError, match="--tokenizer"):
        quantize_checkpoint(tmp_path / "src", tmp_path / "dst")
    assert not (tmp_path / "dst").exists()
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst", tokenizer=tmp_path / "other")
    assert checkpoint.read_config(tmp_path / "dst")["num_tokens"] == 300


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    write_float(tmp_path / "src", shape=SHAPES["tiny"])
    write_published(tmp_path / "other", vocab_size=400)
    with pytest.raises(CheckpointError, match="380 tokens"):
        quantize_checkpoint(tmp_path / "src", tmp_path / "dst", tokenizer=tmp_path / "other")


def test_eight_bit_sources_take_no_other_block_size(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    with pytest.raises(CheckpointError, match="block size 256"):
        quantize_checkpoint(tmp_path / "src", tmp_path / "dst", 256)
    with pytest.raises(CheckpointError, match="block size 100: expected one of 64"):
        quantize_checkpoint(tmp_path / "src", tmp_path / "dst", 100)
    quantize_checkpoint(tmp_path / "src", tmp_path / "dst", 4096)
    with pytest.raises(CheckpointError, match="native 8-bit checkpoint already"):
        quantize_checkpoint(tmp_path / "dst", tmp_path / "dst2")


def test_an_unknown_prompt_format_is_refused(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    with pytest.raises(CheckpointError, match="prompt format 'chatml': expected one of tertulia, plain"):
        quantize_checkpoint(tmp_path / "src", tmp_path / "dst", prompt_format="chatml")
    assert not (tmp_path / "dst").exists()


def test_a_native_float_checkpoint_is_a_source(tmp_path: Path) -> None:
    """Pretraining writes float weights in the native format; quantising them keeps num_tokens and prompt format."""
    write_float(tmp_path / "stock")
    config = open_source(tmp_path / "stock").config | {"num_tokens": 290, "prompt_format": "tertulia"}
    extra = tokenizer_files.carry(tmp_path / "stock", 128)
    checkpoint.save(tmp_path / "float", config, float_tensors(SHAPES["tiny"]), extra_files=extra)
    quantize_checkpoint(tmp_path / "float", tmp_path / "dst", 64)
    fields = checkpoint.read_config(tmp_path / "dst")
    assert (fields["num_tokens"], fields["prompt_format"], fields["block_size"]) == (290, "tertulia", 64)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_export_is_a_stock_checkpoint_of_the_dequantised_weights(tmp_path: Path, dtype: str) -> None:
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    export(tmp_path / "native", tmp_path / "out", dtype)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "GPTJForCausalLM"
    assert model.dtype == getattr(torch, dtype)
    weights = checkpoint.load_weights(tmp_path / "native")
    state = model.state_dict()
    for module in SHAPES["tiny"].weights():
        parts = (weights[f"{module}.{part}"] for part in ("weight", "absmax", "code"))
        values = dynamic8.QuantizedTensor(*parts, 4096).dequantize()
        assert torch.equal(state[f"{module}.weight"], values.to(model.dtype)), module
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<|endoftext|>"


def test_an_export_of_several_shards_has_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    monkeypatch.setattr("model.export.SHARD_BYTES", 100_000)
    monkeypatch.setattr("model.export.PIECE", 4096)
    export(tmp_path / "native", tmp_path / "out", "float32")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert verify(tmp_path / "native", against=tmp_path / "out").max_abs_error == 0


def test_an_export_refuses_what_float16_cannot_hold(tmp_path: Path) -> None:
    write_published(tmp_path / "src", std=1e5)
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    with pytest.raises(CheckpointError, match=r"transformer\.wte\.weight does not fit .*float16"):
        export(tmp_path / "native", tmp_path / "out", "float16")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="dtype 'int8'"):
        export(tmp_path / "native", tmp_path / "out", "int8")


def test_verify_reports_what_a_person_wants_to_know(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    (tmp_path / "native" / "notes.txt").write_text("mine")
    seen: list[tuple[int, int, str]] = []
    report = verify(tmp_path / "native", progress=lambda *step: seen.append(step))
    assert (report.block_size, report.num_tensors, report.parameters) == (4096, 53, 140_608)
    assert report.unlisted == ("notes.txt",)
    assert seen[-1][0] == seen[-1][1] == report.parameters
    assert 8 < report.bits_per_parameter < 10
    assert report.identical is None
    largest = {tensor.name: tensor.largest for tensor in report.tensors}
    assert 1.5 < largest["lm_head"] < 3  # the largest of 20480 values of std 0.5


def test_verify_against_something_else_is_refused_not_measured(tmp_path: Path) -> None:
    """max(0.0, nan) is 0.0: a source of NaNs must not pass for an exact copy."""
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "native")
    write_float(tmp_path / "wide", shape=Shape(n_embd=128))
    with pytest.raises(CheckpointError, match="n_embd is 128, the checkpoint has 64"):
        verify(tmp_path / "native", against=tmp_path / "wide")
    state = write_float(tmp_path / "nan")
    state["lm_head.weight"][0, 0] = float("nan")
    save_file(state, tmp_path / "nan" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight holds NaN"):
        verify(tmp_path / "native", against=tmp_path / "nan")


_CONVERT_SLOWLY = """
import sys, time
from model.convert import quantize_checkpoint

def pause(done, total, name):
    if done > total / 2:
        print("half", flush=True)
        time.sleep(60)

quantize_checkpoint(sys.argv[1], sys.argv[2], progress=pause)
"""


def test_a_killed_conversion_leaves_nothing_that_loads_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    quantize_checkpoint(tmp_path / "src", tmp_path / "clean")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", _CONVERT_SLOWLY, str(tmp_path / "src"), str(out / "dst")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        with pytest.raises(CheckpointError, match="another process is writing"):
            quantize_checkpoint(tmp_path / "src", out / "dst")
        os.kill(process.pid, signal.SIGKILL)
    assert [path.name for path in out.iterdir()] == [".dst.partial"]
    for folder in (out / "dst", out / ".dst.partial"):
        with pytest.raises(CheckpointError):
            checkpoint.load_weights(folder)
    quantize_checkpoint(tmp_path / "src", out / "dst")
    assert contents(out / "dst") == contents(tmp_path / "clean")
    assert [path.name for path in out.iterdir()] == ["dst"]
