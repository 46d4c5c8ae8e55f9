"""Between products: the compiled kernels do what torch does, in float64 where torch rounds more often."""

from __future__ import annotations

import mmap
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.engine.rows import TorchRows, rows_for
from model.kernels import ops

compiled_rows = pytest.importorskip("model.kernels.cpu_rows")
cpu = pytest.importorskip("model.kernels.cpu")

SIZES = [(1, 8), (3, 40), (16, 4096), (40, 2050)]  # rows, width; the last two are more than one thread's
NEAR = {torch.float32: 2e-6, torch.bfloat16: 8e-3}


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_choice", "cpu")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    given: torch.dtype = request.param
    return given


def random(*shape: int, dtype: torch.dtype, scale: float = 3.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale).to(dtype)


def close(ours: Tensor, true: Tensor) -> None:
    assert ours.shape == true.shape
    torch.testing.assert_close(ours.double(), true.double(), atol=NEAR[ours.dtype], rtol=NEAR[ours.dtype])


@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_layer_norm(rows: int, width: int, dtype: torch.dtype) -> None:
    norm = torch.nn.LayerNorm(width, dtype=dtype)
    norm.weight.data, norm.bias.data = random(width, dtype=dtype), random(width, dtype=dtype, scale=0.1)
    x = random(rows, width, dtype=dtype) + 2
    before = x.clone()
    with torch.inference_mode():
        ours = compiled_rows.CompiledRows().norm(norm, x)
    true = F.layer_norm(x.double(), (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    close(ours, true)
    assert torch.equal(x, before)


def faults() -> int:
    """Page faults of this process so far that needed no disk."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pages come when they are touched")
def test_pages_that_will_be_written_are_taken_and_no_others() -> None:
    """Writing there costs no page faults any more, behind it as ever; what is in the buffer stays."""
    small = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        small.madvise(23)  # MADV_POPULATE_WRITE
    except OSError:
        pytest.skip("this kernel gives pages only when they are touched")
    shape = (3, 2, 1024, 4, 64)  # n_layer, 2, context, H, D: 128 pages in each of six parts
    memory = mmap.mmap(-1, 2 * 3 * 2 * 1024 * 4 * 64, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    buffer = torch.frombuffer(memory, dtype=torch.bfloat16).view(shape)
    buffer[:, :, :100] = 1.0
    expect = compiled_rows.CompiledRows().expect
    expect(buffer, 100, 900)
    before = faults()
    buffer[:, :, 100:900] = 2.0
    assert faults() - before < 60
    before = faults()
    buffer[:, :, 900:] = 3.0
    assert faults() - before >= 60
    expect(buffer.transpose(2, 3), 0, 4)  # not in one piece: left alone
    expect(buffer, 900, 900)
    with pytest.raises(AssertionError, match="positions 900 to 1025 of 1024"):
        expect(buffer, 900, 1025)
    assert bool((buffer[:, :, :100] == 1.0).all())
    assert bool((buffer[:, :, 100:900] == 2.0).all())


def test_scratch_is_there_with_huge_pages_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (0, 1, 4097, 3 * 2**20 + 6):
        scratch = cpu._huge_pages(size)
        scratch.fill_(7)
        assert (scratch.dtype, scratch.numel()) == (torch.uint8, size)
    assert scratch.view(torch.bfloat16).numel() == size // 2

    def none_left(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(cpu.mmap, "mmap", none_left)
        assert cpu._huge_pages(100).numel() == 100
    monkeypatch.delattr(cpu.mmap, "MADV_HUGEPAGE", raising=False)
    assert cpu._huge_pages(100).numel() == 100


@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_gelu(rows: int, width: int, dtype: torch.dtype) -> None:
    x = random(rows, width, dtype=dtype)
    x[0, :8] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 20.0, -20.0, 3e38, -3e38])
    true = F.gelu(x.double().clamp(-1e30, 1e30), approximate="tanh")
    true[x > 1e30] = x[x > 1e30].double()
    ours = compiled_rows.CompiledRows().activate(None, x)
    assert ours is x
    close(ours, true)


@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_sum(rows: int, width: int, dtype: torch.dtype) -> None:
    x, a, b = (random(rows, width, dtype=dtype, scale=scale) for scale in (1.0, 5.0, 0.2))
    expected = x + a + b
    assert torch.equal(compiled_rows.CompiledRows().add(x, a, b), expected)


@pytest.mark.parametrize(("rows", "heads", "dim", "pairs"), [(1, 1, 2, 1), (5, 3, 20, 7), (33, 16, 256, 32)])
def test_rotary(rows: int, heads: int, dim: int, pairs: int, dtype: torch.dtype) -> None:
    x = random(rows, heads, dim, dtype=dtype)
    angles = random(rows, 1, pairs, dtype=torch.float32)
    turns = torch.polar(torch.ones_like(angles), angles)
    expected = TorchRows().turn(x, turns)
    close(compiled_rows.CompiledRows().turn(x, turns), expected)


def test_what_the_kernels_do_not_serve_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = [torch.nn.LayerNorm(8), torch.nn.LayerNorm(8)]
    assert isinstance(rows_for(norms, "gelu_new"), compiled_rows.CompiledRows)
    assert isinstance(rows_for(norms, "relu"), TorchRows)
    assert isinstance(rows_for([norms[0], torch.nn.LayerNorm(8, dtype=torch.bfloat16)], "gelu_new"), TorchRows)
    assert isinstance(rows_for([torch.nn.LayerNorm(8, dtype=torch.float16)], "gelu_new"), TorchRows)
    monkeypatch.setattr(ops, "_choice", "reference")
    assert isinstance(rows_for(norms, "gelu_new"), TorchRows)
