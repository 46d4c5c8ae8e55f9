"""A prompt by the compiled kernels: attention by tiles, GELU with the product before it, against float64 and torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.engine.adapters import Adapter
from model.engine.cache import KeyValues
from model.engine.products import activated, products, prompt_attention
from model.engine.runner import Runner, Segment
from model.kernels import ops
from tests.model.engine.test_blocks import gptj
from tests.model.engine.test_products import layer, turned

cpu = pytest.importorskip("model.kernels.cpu")
cpu_prompts = pytest.importorskip("model.kernels.cpu_prompts")
cpu_rows = pytest.importorskip("model.kernels.cpu_rows")
tiles = pytest.mark.skipif("amx" not in cpu.levels(), reason="this processor has no matrix tiles")


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_choice", "cpu")
    monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(cpu.levels()[-1]))


def random(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def turns_for(rows: int, pairs: int) -> Tensor:
    angles = torch.rand(rows, 1, pairs, generator=torch.Generator().manual_seed(rows)) * 6
    return torch.polar(torch.ones_like(angles), angles)


SIZES = [  # heads, dim, rotary, past, rows
    *((1, 32, 32, 0, 1), (1, 32, 2, 0, 32), (3, 64, 40, 5, 33), (2, 96, 64, 31, 17)),
    *((5, 64, 32, 40, 100), (2, 256, 64, 70, 2), (16, 256, 64, 0, 130)),
]


@tiles
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("heads", "dim", "rotary", "past", "rows"), SIZES)
def test_a_prompts_attention_is_causal_attention(
    heads: int, dim: int, rotary: int, past: int, rows: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64; what stands behind the prompt in the buffer, NaN, is neither read nor written."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    if threads == 3:
        monkeypatch.setattr(cpu, "KEPT_BYTES", 0)  # scratch that nobody keeps, as of many threads
    kept = random(2, past + rows + 3, heads, dim)
    kept[:, past:] = float("nan")
    before = kept.clone()
    query, key, value = (random(rows, heads, dim, seed=seed) for seed in (1, 2, 3))
    given = [part.clone() for part in (query, key, value)]
    turns, out = turns_for(rows, rotary // 2), torch.full_like(query, float("nan"))
    cpu_prompts.PromptAttention()(kept, past, query, key, value, turns, out)
    assert all(torch.equal(part, same) for part, same in zip((query, key, value), given, strict=True))

    written, alone = kept[0, past : past + rows], cpu_rows.CompiledRows().turn(key.clone(), turns)
    assert torch.equal(written[..., rotary:], key[..., rotary:])
    torch.testing.assert_close(written, alone, atol=0.0, rtol=2**-7)  # the last bit, where a sum lies between two
    assert torch.equal(kept[1, past : past + rows], value)
    assert torch.equal(kept[:, :past], before[:, :past])
    assert bool(kept[:, past + rows :].isnan().all())

    asked = torch.stack([turned(query[row], turns[row, 0]).bfloat16() for row in range(rows)]).double()
    seen = kept[:, : past + rows].double()
    mask = torch.ones(rows, past + rows, dtype=torch.bool).tril(past)
    true = F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in (asked, *seen)), attn_mask=mask).transpose(0, 1)
    torch.testing.assert_close(out.double(), true, atol=0.04, rtol=0.0)


@tiles
def test_what_the_tiles_do_not_serve_is_told() -> None:
    serves = cpu_prompts.PromptAttention().serves
    buffer = torch.zeros(3, 2, 8, 2, 64, dtype=torch.bfloat16)
    shifted = torch.zeros(buffer.numel() + 1, dtype=torch.bfloat16)[1:].view(buffer.shape)
    prompt = random(9, 2, 64)
    assert serves(buffer)
    assert not serves(buffer.float())
    assert not serves(buffer.half())
    assert not serves(buffer.transpose(2, 3))
    assert not serves(torch.zeros(3, 2, 8, 2, 40, dtype=torch.bfloat16))
    assert not serves(shifted)
    with pytest.raises(AssertionError):
        cpu_prompts.PromptAttention()(shifted[0], 0, *[prompt[:2]] * 3, turns_for(2, 4), prompt[:2])
    cpu.use_level("avx512-vbmi")
    assert not serves(buffer)
    with pytest.raises(AssertionError, match="not served"):
        cpu_prompts.PromptAttention()(buffer[0], 0, *[prompt[:2]] * 3, turns_for(2, 4), prompt[:2])
    with pytest.raises(AssertionError, match="a buffer is full"):
        cpu_prompts.PromptAttention()(buffer[0], 0, *[prompt] * 3, turns_for(9, 4), prompt)


def test_other_kernels_have_no_attention_for_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_choice", "reference")
    assert prompt_attention(torch.empty(1)) is None
    assert activated(products([layer(64, 64, bias=True)])) is None


@pytest.mark.parametrize("level", cpu.levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17, 40])
def test_gelu_in_the_same_call_is_gelu_after_it(
    rows: int, dtype: torch.dtype, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, and of the last product only."""
    monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(level))
    plain = products([layer(256, size, bias=True, block_size=256, seed=size) for size in (64, 200)])
    x = torch.randn(rows, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = plain(x, None)
    cpu_rows.apply_gelu(expected[-1])
    in_one_call = activated(plain)
    assert in_one_call is not None
    for into in (None, plain(x, None)):
        assert all(torch.equal(y, true) for y, true in zip(in_one_call(x, into), expected, strict=True))


def adapter(*names: str) -> Adapter:
    """Of rank 2, large enough to matter."""
    sizes = {"q_proj": (256, 256), "fc_in": (256, 1024)}
    reached = {f"transformer.h.{number}.{name}": sizes[name.split(".")[1]] for number in range(3) for name in names}
    matrices = {
        name: (random(2, n_in, scale=0.1), random(n_out, 2, seed=1), 1.0) for name, (n_in, n_out) in reached.items()
    }
    return Adapter("test", matrices)


@pytest.mark.parametrize("level", cpu.levels())
@pytest.mark.parametrize("names", [(), ("attn.q_proj",), ("mlp.fc_in",), ("attn.q_proj", "mlp.fc_in")], ids=str)
def test_prompts_beside_replies_are_what_they_are_by_torch(
    names: tuple[str, ...], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new conversation, one that goes on with many and one with one token, the second under an adapter."""
    monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(level))
    runner = Runner(gptj(torch.bfloat16, 256, 4, 256))
    own = adapter(*names) if names else None
    ids = [(7 * i + i * i) % 90 for i in range(70)]
    results = []
    for by_torch in (False, True):
        if by_torch:
            runner.prompt_attention = None
            for each in runner.layers:
                each._read_activated = None
        new, longer, reply = (KeyValues(runner.layout, which) for which in (None, own, None))
        runner.forward([Segment(longer, ids[:30]), Segment(reply, ids[:5])])
        logits = runner.forward([Segment(new, ids[:41]), Segment(longer, ids[30:65]), Segment(reply, ids[5:6])])
        results.append((logits.float(), torch.cat([kv.buffer[:, :, : len(kv.ids)].float() for kv in (new, longer)], 2)))
    (logits, buffers), (true_logits, true_buffers) = results
    torch.testing.assert_close(logits, true_logits, atol=0.05 * float(true_logits.std()), rtol=0.02)
    torch.testing.assert_close(buffers, true_buffers, atol=0.05 * float(true_buffers.std()), rtol=0.05)
