"""LoRA on 8-bit layers: gradients equal stock PEFT on the dequantised model, and hostile adapter files are refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError
from model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, attach, load_adapter
from tests.model.test_gptj import pair

IDS = torch.randint(1, 320, (2, 16), generator=torch.Generator().manual_seed(1))


def config(**overrides: object) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "fc_in"], **overrides})


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    tuned = attach(pair()[0], config())
    randomise(tuned)
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_gradients_equal_stock_peft_on_the_dequantised_model() -> None:
    ours, stock = pair()
    tuned, reference = attach(ours, config()), get_peft_model(stock, config())
    randomise(tuned)
    randomise(reference)
    tuned(input_ids=IDS, labels=IDS).loss.backward()
    reference(input_ids=IDS, labels=IDS).loss.backward()
    theirs = dict(reference.named_parameters())
    compared = 0
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-5)
            compared += 1
    assert compared == 2 * 2 * 3


@torch.no_grad()
def test_the_file_loads_here_and_on_stock_transformers(adapter: Path) -> None:
    ours, stock = pair()
    before = ours(IDS).logits
    tuned = load_adapter(ours, adapter)
    reference = PeftModel.from_pretrained(stock, adapter)
    difference = (tuned(IDS).logits - reference(IDS).logits).abs().max()
    assert difference < 1e-3
    assert (tuned(IDS).logits - before).abs().max() > 0.1
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


@pytest.mark.parametrize("method", ["merge_and_unload", "merge_adapter"])
def test_merging_into_codes_is_refused(adapter: Path, method: str) -> None:
    tuned = load_adapter(pair()[0], adapter)
    codes = tuned.get_base_model().transformer.h[0].attn.q_proj.get_base_layer().weight.clone()
    with pytest.raises(ValueError, match="export a merged 16-bit"):
        getattr(tuned, method)()
    assert torch.equal(codes, tuned.get_base_model().transformer.h[0].attn.q_proj.get_base_layer().weight)


def test_dora_is_refused() -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        attach(pair()[0], config(use_dora=True))


def edit(folder: Path, **fields: object) -> None:
    path = folder / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / ADAPTER_WEIGHTS) | change
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / ADAPTER_WEIGHTS)


Q = "base_model.model.transformer.h.0.attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / ADAPTER_CONFIG).unlink(), "adapter_config.json is missing"),
        (lambda f: (f / ADAPTER_WEIGHTS).rename(f / "adapter_model.bin"), "pickled adapters"),
        (lambda f: (f / ADAPTER_CONFIG).write_text("{"), "not JSON"),
        (lambda f: (f / ADAPTER_CONFIG).write_text("[]"), "expected a JSON object"),
        (lambda f: edit(f, peft_type="IA3"), "peft_type is 'IA3'"),
        (lambda f: edit(f, exec_hook="rm"), "unknown settings: exec_hook"),
        (lambda f: edit(f, target_modules=["lm_head"]), "target_modules"),
        (lambda f: edit(f, r=100_000), "expected 1 to 512"),
        (lambda f: edit(f, modules_to_save=["ln_f"]), "modules_to_save"),
        (lambda f: rewrite(f, {Q: None}), "lacks"),
        (lambda f: rewrite(f, {"transformer.wte.weight": torch.zeros(2)}), "foreign"),
        (lambda f: rewrite(f, {Q: torch.zeros(4, 63)}), "expected a float"),
        (lambda f: rewrite(f, {Q: torch.full((4, 64), float("nan"))}), "NaN"),
        (lambda f: (f / ADAPTER_WEIGHTS).write_bytes(b"\xff" * 40), "damaged"),
    ],
)
def test_a_bad_adapter_is_named_and_leaves_the_model_alone(adapter: Path, damage, words: str) -> None:
    model = pair()[0]
    before = model(IDS).logits
    damage(adapter)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_adapter(model, adapter)
    assert "\n" not in str(caught.value)
    assert torch.equal(model(IDS).logits, before)


def test_a_base_path_in_the_file_is_ignored(adapter: Path) -> None:
    edit(adapter, base_model_name_or_path="/etc/somewhere/else")
    assert load_adapter(pair()[0], adapter).peft_config["default"].base_model_name_or_path is None
