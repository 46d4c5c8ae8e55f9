"""The dynamic 8-bit blockwise format: the code table, a quantised tensor, and the check that a stored one is sane.

One byte a weight indexes a sorted table of 256 values in [-1, 1] (sign, 0-6 leading zeros as a decimal exponent,
linear fraction: seven decades), scaled by the largest magnitude of its block. Source: Dettmers, "8-Bit Approximations
for Parallelism in Deep Learning" (2015), as bitsandbytes' `create_dynamic_map` builds it. A published table is kept as
stored and never regenerated: old quantisers wrote -1.0 over its first entry.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from model.errors import CheckpointError
from model.kernels import ops
from model.kernels.ops import BLOCK_SIZES, num_blocks

__all__ = ["BLOCK_SIZES", "QuantizedTensor", "check_quantized", "code_table", "num_blocks", "quantize"]


@cache
def code_table() -> Tensor:
    """The signed dynamic map: (256,) float32, ascending, code[127] = 0, code[255] = 1. Do not write to it."""
    with torch.device("cpu"):
        magnitudes: list[float] = []
        for exponent in range(7):
            boundaries = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
            means = (boundaries[:-1] + boundaries[1:]) / 2
            magnitudes += (10 ** (exponent - 6) * means).tolist()
        values = [-m for m in magnitudes] + [0.0] + magnitudes + [1.0]
        return torch.tensor(sorted(values), dtype=torch.float32)


@dataclass(frozen=True)
class QuantizedTensor:
    """codes (any shape) uint8, absmax (num_blocks,) float32, code (256,) float32.

    The weight is `code[codes.flat[i]] * absmax[i // block_size]`.
    """

    codes: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight in `dtype`, same shape."""
        return ops.dequantize(self.codes, self.absmax, self.code, self.block_size, dtype)


def quantize(weight: Tensor, block_size: int, code: Tensor | None = None) -> QuantizedTensor:
    """weight (any shape) float, finite -> QuantizedTensor. Raises ValueError for a bad block size or dtype.

    Quantising a dequantised tensor again is not exact (0.7 % shrink where a block's largest element is negative), so
    callers quantise original weights only.
    """
    table = (code_table() if code is None else code).to(weight.device)
    codes, absmax = ops.quantize(weight, table, block_size)
    return QuantizedTensor(codes, absmax, table, block_size)


def check_quantized(name: str, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> None:
    """Raise CheckpointError naming `name` unless the three tensors are a sane 8-bit weight; see the module's format."""
    blocks = num_blocks(codes.numel(), block_size)
    for part, tensor, dtype, shape in (
        ("weight", codes, torch.uint8, tuple(codes.shape)),
        ("absmax", absmax, torch.float32, (blocks,)),
        ("code", code, torch.float32, (256,)),
    ):
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{name}.{part} is {_short(tensor.dtype)} {list(tensor.shape)}, "
                f"expected {_short(dtype)} {list(shape)}; convert the checkpoint again from its source"
            )
    if not bool(torch.isfinite(absmax).all()) or bool((absmax < 0).any()):
        raise CheckpointError(f"{name}.absmax holds a negative, infinite or NaN value; the file is damaged")
    if not bool(code.any()):
        raise CheckpointError(f"{name}.code is all zero: a placeholder that was never filled; get the file again")
    if not bool(torch.isfinite(code).all()) or bool((code.abs() > 1).any()) or bool((code.diff() < 0).any()):
        raise CheckpointError(f"{name}.code is not an ascending table of values from -1 to 1; the file is damaged")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
