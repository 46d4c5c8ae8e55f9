"""bitsandbytes' compiled quantise and dequantise, on CPU and CUDA; everything else is the reference around them.

bitsandbytes takes raw pointers unchecked on CPU, so `ops` checks every dtype and length before it calls this.
"""

import bitsandbytes  # noqa: F401  (registers the operators below)
import torch
from torch import Tensor
from torch.nn import functional as F

from model.kernels.reference import embedding

__all__ = ["dequantize", "embedding", "linear", "linear_backward", "quantize"]

_quantize = torch.ops.bitsandbytes.quantize_blockwise.default
_dequantize = torch.ops.bitsandbytes.dequantize_blockwise.default


def quantize(weight: Tensor, code: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """As `reference.quantize`."""
    return _quantize(weight.contiguous(), code, block_size)


def dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """As `reference.dequantize`; the code of an element is looked up and scaled in one pass."""
    return _dequantize(codes.contiguous(), absmax, code, block_size, dtype)


def linear(x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Tensor:
    """As `reference.linear`."""
    weight = dequantize(codes, absmax, code, block_size, x.dtype)
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def linear_backward(grad: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    """As `reference.linear_backward`."""
    return grad @ dequantize(codes, absmax, code, block_size, grad.dtype)
