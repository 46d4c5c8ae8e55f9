"""The losses against what plain PEFT and plain formulas give, one example at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from model.gptj import GPTJ8bitForCausalLM
from model.gptj_config import GPTJ8bitConfig
from model.kernels import ops
from model.layers import Embedding8bit, Linear8bit
from model.lora import attach
from model.prompt_formats import FORMATS
from model.tokenizer import Tokenizer
from tests.training.tuning.small import QUICK, snapshot
from training.tuning.dataset import Dataset, Row, encode_examples, encode_preferences, pack
from training.tuning.losses import _noisy, loss_sum
from training.tuning.presets import ALL_TARGETS

FORMAT = FORMATS["tertulia"]


@pytest.fixture
def reference_kernels() -> Iterator[None]:
    ops.use("reference")
    yield
    ops.use("auto")


@pytest.fixture
def examples(tiny: Path) -> Dataset:
    return encode_examples(snapshot().train, FORMAT, Tokenizer.from_pretrained(tiny), 128)


@pytest.fixture
def pairs(tiny: Path) -> Dataset:
    return encode_preferences(snapshot().preferences, FORMAT, Tokenizer.from_pretrained(tiny), 128)


def config() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules=list(ALL_TARGETS))


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05


def dequantised(eight: GPTJ8bitForCausalLM) -> GPTJ8bitForCausalLM:
    """The same module with plain float layers."""
    plain = GPTJ8bitForCausalLM(GPTJ8bitConfig.from_dict(eight.config.to_dict() | {"block_size": None})).eval()
    for name, module in eight.named_modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            plain.get_submodule(name).weight.data = module.quantized.dequantize()
    kept = {k: v for k, v in eight.state_dict().items() if k.endswith("bias") or "ln_" in k}
    plain.load_state_dict(kept, strict=False)
    return plain


def test_gradients_have_the_very_bits_of_stock_peft_on_the_dequantised_model(
    tiny: Path, examples: Dataset, reference_kernels: None
) -> None:
    """Over packed rows, with checkpointing: the whole path of a step, and only the storage of the base differs."""
    eight = GPTJ8bitForCausalLM.from_pretrained(tiny)
    stock = get_peft_model(dequantised(eight), config())
    ours = attach(eight, config())
    eight.gradient_checkpointing_enable({"use_reentrant": False})
    for model in (ours, stock):
        randomise(model)
        model.train()
        for row in pack(examples.units[:6], 96):
            loss_sum(model, row, QUICK).backward()
    theirs = dict(stock.named_parameters())
    trained = {name: p for name, p in ours.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 6
    for name, parameter in trained.items():
        assert torch.equal(parameter.grad, theirs[name].grad), name
        assert parameter.grad.abs().max() > 0


def test_packing_and_rows_change_no_gradient(tiny: Path, examples: Dataset) -> None:
    """Token-normalised accumulation: the sum over rows is that of the examples one by one, however they are cut."""
    gradients = []
    for row_tokens in (16, 96, 4096):
        model = attach(GPTJ8bitForCausalLM.from_pretrained(tiny), config())
        randomise(model)
        model.train()
        for row in pack(examples.units, row_tokens):
            loss_sum(model, row, QUICK).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for other in gradients[1:]:
        for mine, theirs in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def log_probability(model: Any, ids: list[int], learnt: list[bool]) -> torch.Tensor:
    """Plain: all logits of one example, the loss picked out by hand."""
    logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    at = [i - 1 for i, wanted in enumerate(learnt) if wanted]
    return logits[at, [ids[i + 1] for i in at]].sum()


def test_dpo_is_the_papers_formula_and_its_reference_is_the_bare_base(tiny: Path, pairs: Dataset) -> None:
    """The reference is the same base with the adapter off: with it on, margins would always be 0."""
    bare = GPTJ8bitForCausalLM.from_pretrained(tiny)
    model = attach(GPTJ8bitForCausalLM.from_pretrained(tiny), config())
    randomise(model)
    options = replace(QUICK, method="dpo", beta=0.3, chosen_weight=0.5)
    expected = torch.zeros(())
    for chosen, rejected in pairs.units:
        margins = []
        for encoded in (chosen, rejected):
            policy = log_probability(model, encoded.ids, encoded.learnt)
            margins.append(policy - log_probability(bare, encoded.ids, encoded.learnt))
        own = -log_probability(model, chosen.ids, chosen.learnt) / chosen.num_learnt
        expected = expected - F.logsigmoid(0.3 * (margins[0] - margins[1])) + 0.5 * own
    rows = pack(pairs.units, 96)
    assert len(rows) > 1
    torch.testing.assert_close(sum(loss_sum(model, row, options) for row in rows), expected, rtol=1e-4, atol=1e-4)


def test_dpo_leaves_the_model_training_and_its_adapter_on(tiny: Path, pairs: Dataset) -> None:
    model = attach(GPTJ8bitForCausalLM.from_pretrained(tiny), config())
    model.train()
    loss_sum(model, pack(pairs.units[:1], 96)[0], replace(QUICK, method="dpo")).backward()
    assert model.training
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def row_of(*lengths: int) -> Row:
    total = sum(lengths)
    nothing = torch.zeros(0, dtype=torch.long)
    return Row(torch.zeros(1, total, dtype=torch.long), nothing, nothing, nothing, list(lengths), [])


def test_neftune_scales_its_noise_by_each_examples_own_length() -> None:
    """Scaled by the packed row's length the noise of short examples would be too small."""
    noise = _noisy(torch.zeros(1, 104, 64), row_of(4, 100), neftune=5.0)[0]
    assert 0.9 < noise[:4].abs().max() / (5 / (4 * 64) ** 0.5) <= 1
    assert 0.9 < noise[4:].abs().max() / (5 / (100 * 64) ** 0.5) <= 1


def test_neftune_is_in_training_only(tiny: Path, examples: Dataset) -> None:
    model = attach(GPTJ8bitForCausalLM.from_pretrained(tiny), config())
    row, options = pack(examples.units[:2], 96)[0], replace(QUICK, neftune=5.0)
    model.eval()
    assert loss_sum(model, row, options) == loss_sum(model, row, QUICK)
    model.train()
    assert loss_sum(model, row, options) != loss_sum(model, row, QUICK)
