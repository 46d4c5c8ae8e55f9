"""Every implementation of the 8-bit operations against the pure-torch reference."""

from collections.abc import Iterator

import pytest
import torch

from model.dynamic8 import quantize
from model.kernels import ops, reference
from tests.model.kernels.tables import tables

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (3, 130), (64, 64), (5, 1000), (33, 4096), (2, 8200), (301, 512)]
BLOCKS = [64, 256, 4096]


@pytest.fixture(params=["cpu portable", "cpu avx2", "cpu avx512", "cpu avx512-vbmi", "cpu amx", "bitsandbytes"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Switch the process to one fast implementation, at one level of the processor, and back."""
    name, _, level = request.param.partition(" ")
    if name == "cpu":
        cpu = pytest.importorskip("model.kernels.cpu", reason="the CPU kernels are not compiled")
        if level not in cpu.levels():
            pytest.skip(f"this processor has no {level}")
        monkeypatch.setattr(cpu, "level", cpu.LEVELS.index(level))
    ops.use(name)
    yield name
    ops.use("auto")


def _stored(shape: tuple[int, int], block_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    stored = quantize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), block_size)
    return stored.codes, stored.absmax, stored.code, block_size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_dequantize_is_bit_equal(fast: str, shape: tuple[int, int], block_size: int, dtype: torch.dtype) -> None:
    stored = _stored(shape, block_size)
    assert torch.equal(ops.dequantize(*stored, dtype), reference.dequantize(*stored, dtype))


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_quantize_is_as_near_as_the_reference(fast: str, shape: tuple[int, int], block_size: int) -> None:
    """bitsandbytes looks the code up in a coarse table: near ties and near zero it may take a neighbour."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    code = quantize(weight, block_size).code
    codes, absmax = ops.quantize(weight, code, block_size)
    true_codes, true_absmax = reference.quantize(weight, code, block_size)
    assert torch.equal(absmax, true_absmax)
    back = reference.dequantize(codes, absmax, code, block_size, torch.float32)
    true = reference.dequantize(true_codes, true_absmax, code, block_size, torch.float32)
    assert float((back - weight).square().mean()) <= float((true - weight).square().mean()) * (1 + 1e-3) + 1e-12


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 11, 16, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_both_ways(fast: str, shape: tuple[int, int], block_size: int, dtype: torch.dtype, rows: int) -> None:
    """Against float64. What a sum may be off is set by the rounding of its terms, so it is compared with their size."""
    both_ways(_stored(shape, block_size), dtype, rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_both_ways_of_so_many_rows_that_codes_are_fetched_ahead(fast: str, dtype: torch.dtype) -> None:
    both_ways(_stored((301, 1024), 256), dtype, 500)


def both_ways(stored: tuple[torch.Tensor, torch.Tensor, torch.Tensor, int], dtype: torch.dtype, rows: int) -> None:
    shape = stored[0].shape
    weight = reference.dequantize(*stored, torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, shape[1], generator=generator).to(dtype)
    grad = torch.randn(rows, 1, shape[0], generator=generator).to(dtype)
    bias = torch.randn(shape[0], generator=generator)
    rounding = {torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    for result, left, right, offset in (
        (ops.linear(x, *stored, bias), x.double(), weight.T, bias.double()),
        (ops.linear(x, *stored, None), x.double(), weight.T, torch.zeros(())),
        (ops.linear_backward(grad, *stored), grad.double(), weight, torch.zeros(())),
    ):
        assert result.dtype == dtype
        error = (result.double() - left @ right - offset).abs()
        assert bool((error <= rounding * (left.abs() @ right.abs() + offset.abs()) + 1e-7).all())


@pytest.mark.parametrize("name", list(tables()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block_size", [64, 4096])
@pytest.mark.parametrize("width", [256, 200])
def test_linear_follows_the_table_it_is_given(
    fast: str, width: int, block_size: int, dtype: torch.dtype, name: str
) -> None:
    """Old quantisers wrote -1.0 over the first entry: arithmetic that knows only today's table would be 0.7 % off."""
    code = tables()[name]
    codes = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, width).contiguous()
    absmax = torch.ones(256 * width // block_size + (256 * width % block_size > 0))
    for rows in (1, 2, 3, 8, 16):
        x = torch.zeros(rows, width, dtype=dtype)
        x[:, width - 3] = torch.arange(1, rows + 1)  # small integers: no rounding in the sums
        result = ops.linear(x, codes, absmax, code, block_size, None).double()
        true = code.double() * torch.arange(1, rows + 1)[:, None]
        rounding = 7e-7 if dtype == torch.float32 else 2**-7
        assert bool(((result - true).abs() <= rounding * true.abs()).all())
        if name != "even":
            assert bool((result[:, 127] == 0).all())
        if dtype == torch.float32:
            assert torch.equal(result[:, 255], true[:, 255].float().double())


def test_a_level_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = pytest.importorskip("model.kernels.cpu")
    monkeypatch.setattr(cpu, "level", cpu.level)
    try:
        for name in cpu.levels():
            ops.use(f"cpu:{name}")
            assert ops.kernels() is cpu
            assert cpu.LEVELS[cpu.level] == name
        ops.use("cpu:")
        assert cpu.LEVELS[cpu.level] == cpu.levels()[-1]
        with pytest.raises(ValueError, match="'sse2': expected one of portable"):
            ops.use("cpu:sse2")
        with pytest.raises(ValueError, match="'reference:avx2': expected auto"):
            ops.use("reference:avx2")
    finally:
        ops.use("auto")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_embedding_is_bit_equal(fast: str, shape: tuple[int, int], block_size: int, dtype: torch.dtype) -> None:
    stored = _stored(shape, block_size)
    ids = torch.randint(0, shape[0], (2, 5), generator=torch.Generator().manual_seed(1))
    assert torch.equal(ops.embedding(ids, *stored, dtype), reference.dequantize(*stored, dtype)[ids])


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_compiled_quantiser_equals_the_reference_bit_for_bit(shape: tuple[int, int], block_size: int) -> None:
    cpu = pytest.importorskip("model.kernels.cpu")
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    weight[0, 0] = 0
    code = quantize(weight, block_size).code
    for mine, true in zip(
        cpu.quantize(weight, code, block_size), reference.quantize(weight, code, block_size), strict=True
    ):
        assert torch.equal(mine, true)


def test_a_weight_larger_than_a_slice_is_multiplied_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = pytest.importorskip("model.kernels.cpu")
    stored = _stored((1000, 96), 64)
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(1))
    whole = cpu.linear(x, *stored, None), cpu.linear_backward(x @ torch.ones(96, 1000), *stored)
    monkeypatch.setattr(cpu, "SLICE_BYTES", 96 * 4 * 128)
    sliced = cpu.linear(x, *stored, None), cpu.linear_backward(x @ torch.ones(96, 1000), *stored)
    for one, other in zip(whole, sliced, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_wrong_dtypes_and_lengths_never_reach_a_kernel() -> None:
    """bitsandbytes reads raw pointers: a bf16 code or a short absmax would be read out of bounds."""
    codes, absmax, code, block_size = _stored((4, 64), 64)
    for bad in (
        (codes, absmax, code.bfloat16(), block_size),
        (codes, absmax[:3], code, block_size),
        (codes.int(), absmax, code, block_size),
        (codes, absmax.double(), code, block_size),
        (codes, absmax, code[:255], block_size),
        (codes, absmax, code, 100),
    ):
        with pytest.raises(ValueError, match="expected"):
            ops.dequantize(*bad, torch.float32)


def test_activations_that_do_not_fit_never_reach_a_kernel() -> None:
    """The compiled kernels would read past the end of a row that is too short."""
    stored = _stored((8, 64), 64)
    x = torch.ones(2, 64)
    for bad in (torch.ones(2, 32), torch.ones(2, 96), torch.ones(2, 64, dtype=torch.int32)):
        with pytest.raises(ValueError, match="expected floats"):
            ops.linear(bad, *stored, None)
    with pytest.raises(ValueError, match="expected floats"):
        ops.linear_backward(x, *stored)
    with pytest.raises(ValueError, match="bias"):
        ops.linear(x, *stored, torch.ones(2))
    with pytest.raises(ValueError, match="expected integers"):
        ops.embedding(x, *stored, torch.float32)
    codes, absmax, code, block_size = stored
    with pytest.raises(ValueError, match="strided"):
        ops.linear(torch.ones(1, 8), codes.T, absmax, code, block_size, None)


def test_unknown_kernels_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'turbo': expected auto, cpu, bitsandbytes, reference"):
        ops.use("turbo")
