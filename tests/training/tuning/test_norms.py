"""An adapter with LayerNorms of its own (--train-norms): the same in PEFT, in the engine, merged, and switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import GPTJForCausalLM

from model.engine.adapters import read_adapter
from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.export import export
from model.gptj import GPTJ8bitForCausalLM, generate_naive
from model.lora import ADAPTER_WEIGHTS, load_adapter
from model.tokenizer import Tokenizer
from tests.training.tuning.small import QUICK, snapshot
from training.errors import TuneError
from training.tuning.learner import Learner
from training.tuning.processes import Processes
from training.tuning.trainer import tune

OPTIONS = replace(QUICK, train_norms=True, learning_rate=0.02, epochs=2)
IDS = torch.arange(10, 40)[None]


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tune(tiny, snapshot(), OPTIONS, tmp_path_factory.mktemp("norms"), device="cpu", dtype="float32").adapter


@pytest.fixture
def base(tiny: Path) -> GPTJ8bitForCausalLM:
    return GPTJ8bitForCausalLM.from_pretrained(tiny)


def test_scales_and_shifts_are_learnt_and_no_decay_draws_them_to_zero(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    norms = {name: tensor for name, tensor in tensors.items() if "ln_" in name}
    assert len(norms) == 2 * 3
    for name, tensor in norms.items():
        change = (tensor - (1.0 if name.endswith("weight") else 0.0)).abs()
        assert 0 < change.max() < 0.2, name


@torch.no_grad()
def test_stock_peft_and_a_merged_export_say_the_same(
    tiny: Path, base: GPTJ8bitForCausalLM, adapter: Path, tmp_path: Path
) -> None:
    bare = base(IDS).logits
    ours = load_adapter(base, adapter)(IDS).logits
    stock = GPTJForCausalLM.from_pretrained(export(tiny, tmp_path / "stock", "float32"))
    theirs = PeftModel.from_pretrained(stock, adapter)(IDS).logits
    merged = GPTJForCausalLM.from_pretrained(export(tiny, tmp_path / "merged", "float32", adapter=adapter))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(merged(IDS).logits, ours, rtol=1e-4, atol=1e-4)
    assert (ours - bare).abs().max() > 0.1


def test_the_engine_gives_each_row_its_own_norms(tiny: Path, base: GPTJ8bitForCausalLM, adapter: Path) -> None:
    """In one batch with the bare base: neither may see the other's norms."""
    prompts = [IDS[0, i : i + 9].tolist() for i in range(4)]
    engine = Engine(base, Tokenizer.from_pretrained(tiny))
    greedy = SamplingParams(temperature=0.0, max_new_tokens=12, repetition_penalty=1.0)
    worn = read_adapter(base, adapter)
    streams = [engine.submit(ids, greedy, adapter=worn if i % 2 else None) for i, ids in enumerate(prompts)]
    replies = [list(stream)[-1].ids for stream in streams]
    engine.close()
    tuned = load_adapter(GPTJ8bitForCausalLM.from_pretrained(tiny), adapter).eval()
    for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        assert prompt + list(reply) == generate_naive(tuned if i % 2 else base, prompt, len(reply))


def test_a_run_goes_on_from_a_parent_with_norms(tiny: Path, adapter: Path, base: GPTJ8bitForCausalLM) -> None:
    learner = Learner(base, OPTIONS, Processes("cpu"), "float32", adapter)
    mine, theirs = learner.peft_tensors(learner.adapter()), load_file(adapter / ADAPTER_WEIGHTS)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    fresh = GPTJ8bitForCausalLM.from_pretrained(tiny)
    with pytest.raises(TuneError, match="has modules_to_save"):
        Learner(fresh, replace(OPTIONS, train_norms=False), Processes("cpu"), "float32", adapter)


@torch.no_grad()
def test_the_reference_of_dpo_has_the_bases_norms(tiny: Path, adapter: Path, base: GPTJ8bitForCausalLM) -> None:
    tuned = load_adapter(base, adapter)
    bare = GPTJ8bitForCausalLM.from_pretrained(tiny)(IDS).logits
    with tuned.disable_adapter():
        assert torch.equal(tuned(IDS).logits, bare)
    assert not torch.equal(tuned(IDS).logits, bare)
