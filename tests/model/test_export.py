"""Merging an adapter while exporting: W + (alpha / r) B A in every layer it reaches, and nowhere else."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, checkpoint
from model.dynamic8 import quantize
from model.errors import CheckpointError
from model.export import export
from model.layers import Embedding8bit, Linear8bit
from model.lora import ADAPTER_WEIGHTS, attach

TARGETS = ["q_proj", "fc_in", "fc_out"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A row has 48 or 192 values, a block 64: blocks and pieces end within rows."""
    config = GPTJ8bitConfig(
        vocab_size=96,
        num_tokens=96,
        n_positions=32,
        n_embd=48,
        n_layer=2,
        n_head=2,
        rotary_dim=8,
        block_size=64,
        bos_token_id=0,
        eos_token_id=0,
        prompt_format="plain",
        architectures=["GPTJ8bitForCausalLM"],
    )
    torch.manual_seed(0)
    model = GPTJ8bitForCausalLM(config)
    for module in model.modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            module.store(quantize(torch.randn(module.weight.shape), 64))
    checkpoint.save(tmp_path / "native", config, model.state_dict())
    return tmp_path / "native"


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    tuned = attach(GPTJ8bitForCausalLM.from_pretrained(folder), LoraConfig(r=4, lora_alpha=12, target_modules=TARGETS))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("piece", [64, 2**24])
def test_merged_weights_are_the_bases_and_the_product_of_the_adapters(
    folder: Path, adapter: Path, tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.export.PIECE", piece)
    export(folder, tmp_path / "base", "float32")
    export(folder, tmp_path / "merged", "float32", adapter=adapter)
    base, merged = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "merged"))
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    num_reached = 0
    for name, values in base.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            num_reached += 1
            values = values + 3.0 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            torch.testing.assert_close(merged[name], values, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(merged[name], values)
    assert num_reached == 2 * len(TARGETS)


def test_a_bad_adapter_is_refused_before_anything_is_written(folder: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / ADAPTER_WEIGHTS).write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="damaged"):
        export(folder, tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()
