"""What the compiled kernels do in one call is what torch does in many."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from model.dynamic8 import quantize
from model.engine.products import attention_at_once, products
from model.kernels import ops
from model.layers import Linear8bit

cpu = pytest.importorskip("model.kernels.cpu")
passes = pytest.importorskip("model.kernels.cpu_passes")


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_choice", "cpu")


def layer(n_in: int, n_out: int, *, bias: bool, block_size: int = 64, seed: int = 0) -> Linear8bit:
    generator = torch.Generator().manual_seed(seed)
    made = Linear8bit(n_in, n_out, bias, block_size)
    made.store(quantize(torch.randn(n_out, n_in, generator=generator), block_size))
    if made.bias is not None:
        made.bias.data = torch.randn(n_out, generator=generator)
    return made


@pytest.mark.parametrize("level", cpu.levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 17, 40])
def test_weights_of_the_same_rows_give_together_what_each_gives(
    rows: int, dtype: torch.dtype, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(level))
    modules = [layer(128, size, bias=size != 33, seed=size) for size in (64, 33, 200)]
    together = products(modules)
    assert isinstance(together, passes.Together)
    x = torch.randn(rows, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        for module, y in zip(modules, together(x, None), strict=True):
            assert torch.equal(y, module(x))


def test_weights_that_have_too_little_in_common_go_one_by_one() -> None:
    x = torch.randn(2, 128)
    other_table = layer(128, 8, bias=False)
    other_table.code = other_table.code.clone()
    other_table.code[0] = -1.0
    for modules in (
        [layer(128, 8, bias=False), layer(128, 8, bias=False, block_size=128)],
        [layer(128, 8, bias=False), other_table],
        [layer(128, 8, bias=False, seed=seed) for seed in range(cpu.MOST_WEIGHTS + 1)],
        [torch.nn.Linear(128, 8)],
    ):
        given = products(modules)
        assert not isinstance(given, passes.Together)
        with torch.inference_mode():
            assert all(torch.equal(y, module(x)) for y, module in zip(given(x, None), modules, strict=True))


def turned(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """x (H, D) with its first pairs turned by turns (R / 2,), in float64."""
    size = 2 * len(turns)
    pairs = torch.view_as_complex(x[:, :size].double().unflatten(-1, (-1, 2)).contiguous())
    return torch.cat((torch.view_as_real(pairs * turns).flatten(-2), x[:, size:].double()), -1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "dim", "rotary"), [(1, 8, 8), (3, 20, 6), (5, 64, 32), (16, 256, 64)])
def test_attention_at_once_is_attention_row_by_row(
    heads: int, dim: int, rotary: int, dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64, for conversations of different lengths, an empty one among them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(heads)
    past, layers, context, number = [0, 1, 37, 63], 3, 64, 1
    buffers = [torch.randn(layers, 2, context, heads, dim, generator=generator).to(dtype) for _ in past]
    before = [buffer.clone() for buffer in buffers]
    query, key, value = (3 * torch.randn(len(past), heads, dim, generator=generator).to(dtype) for _ in range(3))
    angles = torch.rand(len(past), rotary // 2, generator=generator) * 6
    turns = torch.polar(torch.ones_like(angles), angles)
    attend = attention_at_once(buffers[0])
    assert attend is passes.Attention
    out = attend(buffers, past, turns)(number, query, key, value)
    for row, length in enumerate(past):
        old = before[row][number].double()
        keys = torch.cat((old[0, :length], turned(key[row], turns[row])[None].to(dtype).double()))
        values = torch.cat((old[1, :length], value[row][None].double()))
        asked = turned(query[row], turns[row])[:, None]
        true = F.scaled_dot_product_attention(asked, keys.transpose(0, 1), values.transpose(0, 1))[:, 0]
        torch.testing.assert_close(out[row].double(), true, atol=1e-5 if dtype == torch.float32 else 0.04, rtol=0.0)
        untouched = torch.ones(context, dtype=torch.bool)
        untouched[length] = False
        for other in range(layers):
            seen = untouched if other == number else slice(None)
            assert torch.equal(buffers[row][other][:, seen], before[row][other][:, seen])
        assert torch.equal(buffers[row][number, 1, length], value[row])
        step = 1e-5 if dtype == torch.float32 else 0.07
        torch.testing.assert_close(buffers[row][number, 0, length].double(), keys[-1], atol=step, rtol=0.0)


def test_other_kernels_and_dtypes_have_no_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_at_once(torch.empty(1, dtype=torch.float16)) is None
    monkeypatch.setattr(ops, "_choice", "reference")
    assert attention_at_once(torch.empty(1)) is None


def test_what_an_earlier_call_gave_is_written_over_with_the_right_result() -> None:
    modules = [layer(256, size, bias=True, block_size=256, seed=size) for size in (64, 200)]
    together = products(modules)
    for dtype in (torch.float32, torch.bfloat16):
        for rows in (3, 7, 17, 40):
            before, after = torch.randn(2, rows, 256).to(dtype)
            fresh = together(after, None)
            again = together(after, together(before, None))
            assert all(torch.equal(y, true) for y, true in zip(again, fresh, strict=True))
