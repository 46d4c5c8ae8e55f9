"""Every implementation of the 8-bit operations against the pure-torch reference."""

from collections.abc import Iterator

import pytest
import torch

from model.dynamic8 import quantize
from model.kernels import ops, reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (3, 130), (64, 64), (5, 1000), (33, 4096)]
BLOCKS = [64, 256, 4096]


@pytest.fixture(params=[name for name in ops.KERNELS if name != "reference"])
def fast(request: pytest.FixtureRequest) -> Iterator[str]:
    """Switch the process to one fast implementation, and back."""
    ops.use(request.param)
    yield request.param
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_linear_both_ways_and_embedding(fast: str, shape: tuple[int, int], block_size: int, dtype: torch.dtype) -> None:
    stored = _stored(shape, block_size)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, shape[1], generator=generator).to(dtype)
    grad = torch.randn(2, 3, shape[0], generator=generator).to(dtype)
    bias = torch.randn(shape[0], generator=generator)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype != torch.float32 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(ops.linear(x, *stored, bias), reference.linear(x, *stored, bias), **tolerance)
    torch.testing.assert_close(
        ops.linear_backward(grad, *stored), reference.linear_backward(grad, *stored), **tolerance
    )
    ids = torch.randint(0, shape[0], (2, 5), generator=generator)
    assert torch.equal(ops.embedding(ids, *stored, dtype), reference.dequantize(*stored, dtype)[ids])


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


def test_unknown_kernels_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'turbo': expected auto, bitsandbytes, reference"):
        ops.use("turbo")
