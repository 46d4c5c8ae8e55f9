"""The native format: what is saved comes back bit for bit, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import checkpoint, dynamic8
from model.atomic_folder import writing
from model.errors import CheckpointError
from model.geometry import check_config, count_parameters, expected_tensors, size_bytes
from model.shards import plan, read_header
from tests.published import SHAPES, published_tensors

CONFIG = check_config(SHAPES["tiny"].config() | {"block_size": 256}, "test")


def tensors(config: dict = CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random native tensors of a config."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, (dtype, shape) in expected_tensors(config).items():
        if dtype == torch.uint8:
            values[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        elif name.endswith(".code"):
            values[name] = dynamic8.code_table().clone()
        else:
            values[name] = torch.rand(shape, generator=generator)
    return values


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("shard_bytes", [512_000_000, 60_000, 1])
def test_saved_tensors_come_back_bit_for_bit_from_any_number_of_shards(tmp_path: Path, shard_bytes: int) -> None:
    saved = tensors()
    checkpoint.save(tmp_path / "m", CONFIG, saved, shard_bytes=shard_bytes)
    loaded = checkpoint.load_weights(tmp_path / "m")
    assert list(loaded) == list(expected_tensors(CONFIG))
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == len(plan(expected_tensors(CONFIG), shard_bytes))


@pytest.mark.parametrize("block_size", [None, 64, 4096])
@pytest.mark.parametrize("head", ["lm_head", "score"])
def test_both_heads_and_float_weights_are_native_too(tmp_path: Path, block_size: int | None, head: str) -> None:
    config = check_config(CONFIG | {"block_size": block_size, "num_labels": 3}, "test", head)
    saved = tensors(config)
    assert ("score.weight" in saved) == (head == "score")
    assert saved["transformer.wte.weight"].dtype == (torch.float32 if block_size is None else torch.uint8)
    checkpoint.save(tmp_path / "m", config, saved)
    loaded = checkpoint.load_weights(tmp_path / "m", config)
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_the_6b_shape_has_the_published_keys_and_size() -> None:
    """625 tensors, 6.05e9 parameters: shapes that follow from the config alone, compared with the published table."""
    expected = expected_tensors(check_config(SHAPES["6b"].config(), "test"))
    assert len(expected) == 681 - 2 * 28
    assert expected["transformer.wte.absmax"] == (torch.float32, (50400,))
    assert expected["transformer.h.27.mlp.fc_in.weight"] == (torch.uint8, (16384, 4096))
    assert expected["transformer.h.27.mlp.fc_out.absmax"] == (torch.float32, (16384,))
    assert count_parameters(expected) == 6_050_882_784
    assert size_bytes(expected) == 6_176_989_824 - 28 * 2048 * 2048  # the causal masks are left out
    sizes = [size_bytes({name: expected[name] for name in names}) for names in plan(expected).values()]
    assert max(sizes) <= 512_000_000
    assert len(sizes) < 20


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    saved = tensors()
    checkpoint.save(tmp_path / "a", CONFIG, saved, source={"kind": "test"})
    checkpoint.save(tmp_path / "b", CONFIG, reversed(saved.items()), source={"kind": "test"})
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_manifest_lists_every_other_file_and_the_header_names_the_format(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", CONFIG, tensors(), extra_files={"MODEL_CARD.md": b"# card\n"})
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "m").iterdir()} - {"manifest.json"}
    assert {"MODEL_CARD.md", "config.json", "generation_config.json", "model.safetensors"} <= set(manifest["files"])
    assert (manifest["format"], manifest["version"], manifest["block_size"]) == ("tertulia-8bit", 1, 256)
    assert manifest["parameters"] == count_parameters(expected_tensors(CONFIG))
    metadata, _ = read_header(tmp_path / "m" / "model.safetensors")
    assert metadata == {"format": "tertulia-8bit", "version": "1", "block_size": "256"}


def test_loaded_weights_are_mapped_and_aligned(tmp_path: Path) -> None:
    """A copy would double the memory of 6B; unaligned values would slow or crash kernels that read the file."""
    checkpoint.save(tmp_path / "m", CONFIG, tensors())
    loaded = checkpoint.load_weights(tmp_path / "m")
    mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else None
    assert mapped is None or str(tmp_path / "m" / "model.safetensors") in mapped
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in loaded.values())
    _, stored = read_header(tmp_path / "m" / "model.safetensors")
    assert min(entry.offset for entry in stored.values()) % 64 == 0


def test_narrower_floats_are_widened_and_wider_ones_refused(tmp_path: Path) -> None:
    saved = tensors()
    halved = saved | {"lm_head.bias": saved["lm_head.bias"].bfloat16()}
    checkpoint.save(tmp_path / "m", CONFIG, halved)
    loaded = checkpoint.load_weights(tmp_path / "m")["lm_head.bias"]
    assert torch.equal(loaded, saved["lm_head.bias"].bfloat16().float())
    with pytest.raises(CheckpointError, match=r"lm_head\.bias is float64"):
        checkpoint.save(tmp_path / "n", CONFIG, saved | {"lm_head.bias": saved["lm_head.bias"].double()})


def test_published_shapes_are_the_expected_ones() -> None:
    """The generator spells the published keys out by hand; the loader derives them from the config."""
    expected = expected_tensors(check_config(SHAPES["tiny"].config(), "test"))
    published = {name: t for name, t in published_tensors(SHAPES["tiny"]).items() if "attn.bias" not in name}
    published = {name: t for name, t in published.items() if "masked_bias" not in name}
    assert {name: (t.dtype, tuple(t.shape)) for name, t in published.items()} == expected


def test_a_non_empty_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="m"):
            checkpoint.save(tmp_path / "m", CONFIG, tensors(), overwrite=overwrite)
    assert contents(tmp_path / "m") == {"thesis.txt": b"years of work"}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_overwrite_replaces_a_native_folder_but_no_foreign_file_in_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", CONFIG, tensors(seed=0))
    with pytest.raises(CheckpointError, match="is not empty"):
        checkpoint.save(tmp_path / "m", CONFIG, tensors(seed=1))
    checkpoint.save(tmp_path / "m", CONFIG, tensors(seed=1), overwrite=True)
    loaded = checkpoint.load_weights(tmp_path / "m")
    assert torch.equal(loaded["lm_head.weight"], tensors(seed=1)["lm_head.weight"])
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        checkpoint.save(tmp_path / "m", CONFIG, tensors(seed=2), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_nothing_not_even_the_parent_folder(tmp_path: Path) -> None:
    saved = tensors()
    with pytest.raises(CheckpointError, match=r"lm_head\.bias is missing"):
        checkpoint.save(tmp_path / "new" / "m", CONFIG, {n: t for n, t in saved.items() if n != "lm_head.bias"})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_is_undone_by_the_next_writer(tmp_path: Path) -> None:
    """Killed between its two renames, an overwrite leaves the old folder aside: it must not be lost."""
    checkpoint.save(tmp_path / "m", CONFIG, tensors())
    before = contents(tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / ".m.replaced")
    with pytest.raises(CheckpointError, match="z is not expected"):
        checkpoint.save(tmp_path / "m", CONFIG, tensors() | {"z": torch.zeros(1)})
    assert contents(tmp_path / "m") == before


def test_two_writers_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    with writing(tmp_path / "m", 0) as partial:
        (partial / "a").write_text("first")
        with pytest.raises(CheckpointError, match="another process is writing"), writing(tmp_path / "m", 0):
            pass
    assert contents(tmp_path / "m") == {"a": b"first"}


def test_unknown_fields_of_a_config_are_dropped_and_defaults_filled_in() -> None:
    raw = {"model_type": "gptj", "vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0, "quirk": 1}
    config = check_config(raw, "test")
    assert "quirk" not in config
    assert (config["n_layer"], config["n_positions"], config["prompt_format"]) == (28, 2048, "plain")
