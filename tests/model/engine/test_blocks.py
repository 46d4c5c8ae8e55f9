"""Whole passes by the compiled kernels are what they are layer by layer with torch between the products."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch

from model.dynamic8 import quantize
from model.engine.adapters import Adapter
from model.engine.cache import KeyValues
from model.engine.rows import TorchRows
from model.engine.runner import Runner, Segment
from model.gptj import GPTJ8bitForCausalLM
from model.gptj_config import GPTJ8bitConfig
from model.kernels import ops
from model.layers import Embedding8bit, Linear8bit
from tests.model.kernels.tables import tables

cpu = pytest.importorskip("model.kernels.cpu")
cpu_blocks = pytest.importorskip("model.kernels.cpu_blocks")
cpu_rows = pytest.importorskip("model.kernels.cpu_rows")


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_choice", "cpu")


def gptj(dtype: torch.dtype, n_embd: int, n_head: int, block_size: int = 64) -> GPTJ8bitForCausalLM:
    """A model whose every weight, norm and bias is random and large enough to matter."""
    numbers = {"n_layer": 3, "rotary_dim": 4, "vocab_size": 96, "num_tokens": 90, "n_positions": 80}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPTJ8bitForCausalLM(GPTJ8bitConfig(**numbers, **ends, n_embd=n_embd, n_head=n_head, block_size=block_size))
    generator = torch.Generator().manual_seed(n_embd)
    for module in model.modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            weight = torch.randn(module.weight.shape, generator=generator) * 2 / module.weight.shape[1] ** 0.5
            module.store(quantize(weight, block_size))
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32:
            parameter.data = torch.randn(parameter.shape, generator=generator) + ("ln" in name and "weight" in name)
    return model.to(dtype).eval()


MODELS = [(64, 2, 64), (40, 5, 64), (256, 4, 256)]  # the last is served by matrix tiles
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.02}


@pytest.fixture(params=list(product(cpu.levels(), NEAR, MODELS)), ids=str)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Of each model in each dtype at each level."""
    level, dtype, (n_embd, n_head, block_size) = request.param
    monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(level))
    return Runner(gptj(dtype, n_embd, n_head, block_size))


def begun(runner: Runner, rows: int) -> list[KeyValues]:
    """Conversations of different lengths."""
    kvs = [KeyValues(runner.layout, None) for _ in range(rows)]
    runner.forward([Segment(kv, [(3 * i + j) % 90 for j in range(1 + i % 7)]) for i, kv in enumerate(kvs)])
    return kvs


def copy_of(kv: KeyValues) -> KeyValues:
    copy = KeyValues(kv.layout, kv.adapter)
    copy.take_prefix(kv, len(kv.ids))
    return copy


def compare(runner: Runner, kvs: list[KeyValues], segments: Callable[[list[KeyValues]], list[Segment]]) -> None:
    """Two passes as the runner does them, and with torch between products, layer by layer: logits and buffers."""
    results, kept = [], (runner.blocks, runner.rows, runner.prompt_attention)
    for compiled_parts in (kept, (None, TorchRows(), None)):
        runner.blocks, runner.rows, runner.prompt_attention = compiled_parts
        own = [copy_of(kv) for kv in kvs]
        logits = [runner.forward(segments(own)).float() for _ in range(2)]
        results.append((torch.stack(logits), torch.cat([kv.buffer[:, :, : len(kv.ids)].float() for kv in own], 2)))
    runner.blocks, runner.rows, runner.prompt_attention = kept
    for ours, true in zip(*results, strict=True):
        assert (ours - true).norm() / true.norm() < NEAR[runner.layout.dtype]


def test_all_blocks_in_one_call_are_the_blocks_one_by_one(runner: Runner) -> None:
    assert isinstance(runner.blocks, cpu_blocks.Blocks)
    by_tiles = cpu.LEVELS[cpu.level] == "amx" and runner.layout.dtype == torch.bfloat16
    assert runner.blocks.takes(20) == (by_tiles and runner.model.config.block_size == 256)
    for rows in (1, 2, 5, 16, 20):
        compare(runner, begun(runner, rows), lambda kvs: [Segment(kv, [7 * i % 90]) for i, kv in enumerate(kvs)])


def test_a_pass_of_single_tokens_and_prompts_is_what_torch_makes_of_it(runner: Runner) -> None:
    """Prompts from nothing and behind a past, and one under an adapter that has its own norms."""
    assert isinstance(runner.rows, cpu_rows.CompiledRows)
    dtype, n_embd, generator = runner.layout.dtype, runner.model.config.n_embd, torch.Generator().manual_seed(2)
    matrices = {
        f"transformer.h.1.{name}": (*(torch.randn(size, generator=generator).to(dtype) for size in sizes), 0.3)
        for name, sizes in {
            "attn.q_proj": ((4, n_embd), (n_embd, 4)),
            "mlp.fc_out": ((4, 4 * n_embd), (n_embd, 4)),
        }.items()
    }
    norms = {
        name: torch.randn(n_embd, generator=generator).to(dtype)
        for name, _ in runner.model.named_parameters()
        if ".ln_" in name
    }
    adapter = Adapter("own", matrices, norms)
    kvs = begun(runner, 4)
    kvs[2].adapter = adapter
    kvs.append(KeyValues(runner.layout, None))
    lengths = (1, 9, 13, 1, 25)
    compare(runner, kvs, lambda kvs: [Segment(kv, list(range(3, 3 + n))) for kv, n in zip(kvs, lengths, strict=True)])


def test_a_large_block_goes_over_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    runner = Runner(gptj(torch.bfloat16, 1280, 5, 256))
    compare(runner, begun(runner, 6), lambda kvs: [Segment(kv, [7 * i % 90]) for i, kv in enumerate(kvs)])


def test_blocks_that_the_kernels_do_not_serve_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Runner(gptj(torch.float16, 64, 2)).blocks is None
    mixed = gptj(torch.bfloat16, 64, 2)
    mixed.transformer.h[1].ln_1.float()
    assert Runner(mixed).blocks is None
    other_table = gptj(torch.bfloat16, 64, 2)
    other_table.transformer.h[1].attn.out_proj.code = tables()["bent"]
    assert Runner(other_table).blocks is None
    monkeypatch.setattr(ops, "_choice", "reference")
    assert Runner(gptj(torch.float32, 64, 2)).blocks is None


def test_a_model_loaded_anew_under_a_runner_is_noticed() -> None:
    model = gptj(torch.float32, 64, 2)
    runner = Runner(model)
    kvs = begun(runner, 1)
    model.transformer.h[2].ln_1.weight.data = torch.ones(64)
    with pytest.raises(AssertionError, match="loaded anew"):
        runner.forward([Segment(kvs[0], [5])])
