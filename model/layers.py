"""Linear and embedding layers whose frozen weights stay in 8 bits; arithmetic is in the dtype of the activations.

What always holds: `weight` is uint8, `absmax` and `code` are float32, through every `.to()`, `.half()` or `.cuda()`;
gradients flow to the input (and to a trainable bias), never to the stored weight.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from model.dynamic8 import QuantizedTensor, num_blocks
from model.kernels import ops


class _Storage8bit(nn.Module):
    """The three tensors of an 8-bit weight, guarded against casts; subclasses say what they do with it."""

    weight: nn.Parameter
    absmax: Tensor
    code: Tensor

    def __init__(self, rows: int, columns: int, block_size: int, device: Any = None) -> None:
        super().__init__()
        self.block_size = block_size
        codes = torch.zeros(rows, columns, dtype=torch.uint8, device=device)
        self.weight = nn.Parameter(codes, requires_grad=False)
        blocks = num_blocks(rows * columns, block_size)
        self.register_buffer("absmax", torch.zeros(blocks, dtype=torch.float32, device=device))
        self.register_buffer("code", torch.zeros(256, dtype=torch.float32, device=device))

    @property
    def quantized(self) -> QuantizedTensor:
        """The stored weight; shares memory with the layer."""
        return QuantizedTensor(self.weight.data, self.absmax, self.code, self.block_size)

    def store(self, quantized: QuantizedTensor) -> None:
        """Take over the tensors of `quantized` (same shape and block size)."""
        if quantized.shape != self.weight.shape or quantized.block_size != self.block_size:
            raise ValueError(
                f"layer {list(self.weight.shape)} with block size {self.block_size} cannot store "
                f"{list(quantized.shape)} with block size {quantized.block_size}"
            )
        self.weight = nn.Parameter(quantized.codes, requires_grad=False)
        self.absmax, self.code = quantized.absmax, quantized.code

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves follow `fn`, casts of absmax and code do not: bf16 copies of them would be read out of bounds."""
        kept = {"absmax": self.absmax, "code": self.code}
        super()._apply(fn, recurse)
        for name, original in kept.items():
            moved = self._buffers[name]
            assert moved is not None
            if moved.dtype != torch.float32:
                self._buffers[name] = original.to(moved.device)
        return self


class _Linear8bitFunction(torch.autograd.Function):
    """y = x W^T + b with W dequantised on the way; saves the codes, never a dequantised weight."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(codes, absmax, code)
        ctx.block_size = block_size
        ctx.bias_dtype = None if bias is None else bias.dtype
        return ops.linear(x, codes, absmax, code, block_size, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        codes, absmax, code = ctx.saved_tensors
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = ops.linear_backward(grad, codes, absmax, code, ctx.block_size)
        if ctx.needs_input_grad[5]:
            grad_bias = grad.flatten(0, -2).sum(0).to(ctx.bias_dtype)
        return grad_x, None, None, None, None, grad_bias


class Linear8bit(_Storage8bit):
    """y = x W^T + b, W (out_features, in_features) stored in 8 bits, b (out_features,) float or None."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        block_size: int,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(out_features, in_features, block_size, device)
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) float -> (..., out_features) in x's dtype (autocast's dtype where it is on)."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if not torch.is_grad_enabled():  # an autograd function costs a small layer a quarter of its time
            return ops.linear(x, self.weight, self.absmax, self.code, self.block_size, self.bias)
        return _Linear8bitFunction.apply(x, self.weight, self.absmax, self.code, self.block_size, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, block_size={self.block_size}"


class Embedding8bit(_Storage8bit):
    """Rows of a table (num_embeddings, embedding_dim) stored in 8 bits, gathered without dequantising the table."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        block_size: int,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, block_size, device)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.dtype = dtype or torch.get_default_dtype()

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) integer -> (..., embedding_dim) in the dtype that the last `.to(dtype)` asked for."""
        return ops.embedding(ids, self.weight, self.absmax, self.code, self.block_size, self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, block_size={self.block_size}"
