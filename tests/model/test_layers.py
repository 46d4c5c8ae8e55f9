"""The 8-bit layers: storage survives casts, gradients reach the input only, results equal a float layer's."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.dynamic8 import quantize
from model.layers import Embedding8bit, Linear8bit


def _linear(block_size: int = 64, bias: bool = True) -> Linear8bit:
    generator = torch.Generator().manual_seed(0)
    layer = Linear8bit(96, 40, bias=bias, block_size=block_size)
    layer.store(quantize(torch.randn(40, 96, generator=generator), block_size))
    if layer.bias is not None:
        layer.bias.data = torch.randn(40, generator=generator)
    return layer


def _embedding(block_size: int = 64) -> Embedding8bit:
    layer = Embedding8bit(50, 24, block_size)
    layer.store(quantize(torch.randn(50, 24, generator=torch.Generator().manual_seed(0)), block_size))
    return layer


@pytest.mark.parametrize("block_size", [64, 4096])
def test_linear_equals_a_float_linear_of_the_dequantised_weight(block_size: int) -> None:
    layer = _linear(block_size)
    x = torch.randn(2, 3, 96, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    x2 = x.detach().clone().requires_grad_()
    y2 = F.linear(x2, layer.quantized.dequantize(), layer.bias)
    y2.square().sum().backward()
    torch.testing.assert_close(y, y2)
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-4, atol=1e-3)  # values reach hundreds


def test_gradient_goes_to_input_and_bias_but_never_to_the_codes() -> None:
    layer = _linear()
    assert not layer.weight.requires_grad
    x = torch.randn(3, 96, requires_grad=True)
    layer(x).sum().backward()
    assert layer.bias is not None
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((40,), 3.0))
    assert x.grad is not None
    assert bool(x.grad.any())


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.to(torch.bfloat16),
        lambda m: m.half(),
        lambda m: m.double(),
        lambda m: m.bfloat16().float(),
        copy.deepcopy,
        lambda m: nn.Sequential(m).to("cpu", torch.bfloat16)[0],
    ],
)
def test_codes_scales_and_table_survive_every_cast(cast: Callable[[nn.Module], nn.Module]) -> None:
    """A bf16 code table would be read out of bounds by a compiled kernel, and rounds every weight."""
    for layer in (_linear(), _embedding()):
        before = layer.quantized
        after = cast(layer).quantized
        assert after.codes.dtype == torch.uint8
        assert torch.equal(before.codes, after.codes)
        assert torch.equal(before.absmax, after.absmax)
        assert torch.equal(before.code, after.code)


def test_activations_follow_the_dtype_of_the_module() -> None:
    assert _embedding().bfloat16()(torch.tensor([1])).dtype == torch.bfloat16
    assert _embedding().bfloat16().float()(torch.tensor([1])).dtype == torch.float32
    assert _linear().bfloat16()(torch.ones(1, 96, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_autocast_computes_in_its_dtype() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _linear()(torch.ones(1, 96)).dtype == torch.bfloat16


@pytest.mark.parametrize("block_size", [64, 256, 4096])
def test_embedding_gathers_rows_that_share_blocks(block_size: int) -> None:
    """24 values a row: a block holds parts of several rows, so a row's scale is not one number."""
    layer = _embedding(block_size)
    ids = torch.tensor([[0, 49, 7], [7, 1, 2]])
    assert torch.equal(layer(ids), layer.quantized.dequantize()[ids])


def test_state_dict_round_trip_keeps_every_bit() -> None:
    source, target = _linear(), Linear8bit(96, 40, bias=True, block_size=64)
    target.load_state_dict(source.state_dict())
    x = torch.randn(2, 96)
    assert torch.equal(source(x), target(x))


def test_store_refuses_another_shape_or_block_size() -> None:
    with pytest.raises(ValueError, match="cannot store"):
        _linear(64).store(quantize(torch.randn(40, 96), 128))
