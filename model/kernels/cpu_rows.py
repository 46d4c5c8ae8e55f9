"""What a block does to rows of activations between its products, by rows.c: one pass over memory each."""

from typing import Any

import torch
from torch import Tensor

from model.kernels import cpu


def apply_gelu(x: Tensor) -> Tensor:
    """By tanh, in place."""
    assert x.is_contiguous()
    cpu.library.d8_gelu(cpu.DTYPES[x.dtype], x.data_ptr(), x.numel(), torch.get_num_threads())
    return x


class CompiledRows:
    """For contiguous float32 or bfloat16 tensors on the CPU, and GELU by tanh; see `model.engine.rows.TorchRows`."""

    def expect(self, buffer: Tensor, first: int, last: int) -> None:
        """Positions first ... last of buffer (n_layer, 2, context, H, D) will be written."""
        if not buffer.is_contiguous() or last <= first:
            return
        n_layer, two, context, _, _ = buffer.shape
        assert 0 <= first < last <= context, f"positions {first} to {last} of {context}"
        layer, position = buffer.stride(1) * buffer.itemsize, buffer.stride(2) * buffer.itemsize
        start, size = buffer.data_ptr() + first * position, (last - first) * position
        cpu.library.d8_take_pages(start, n_layer * two, layer, size, torch.get_num_threads())

    def norm(self, module: Any, x: Tensor) -> Tensor:
        """LayerNorm of x (N, n_embd)."""
        assert x.dtype == module.weight.dtype == module.bias.dtype
        assert module.weight.shape == module.bias.shape == x.shape[-1:]
        assert module.weight.is_contiguous()
        assert module.bias.is_contiguous()
        x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        cpu.library.d8_norm(
            *(cpu.DTYPES[x.dtype], x.data_ptr(), module.weight.data_ptr(), module.bias.data_ptr()),
            *(len(x), x.shape[-1], module.eps, out.data_ptr(), torch.get_num_threads()),
        )
        return out

    def turn(self, x: Tensor, turns: Tensor) -> Tensor:
        """x (N, H, D) with the pairs of its first 2 P entries turned, in place, by turns (N, 1, P) complex64."""
        rows, heads, dim = x.shape
        assert x.is_contiguous()
        assert turns.is_contiguous()
        assert turns.dtype == torch.complex64
        assert len(turns) == rows
        assert 2 * turns.shape[-1] <= dim
        sizes = (rows, heads, dim, 2 * turns.shape[-1])
        cpu.library.d8_turn(cpu.DTYPES[x.dtype], x.data_ptr(), turns.data_ptr(), *sizes, torch.get_num_threads())
        return x

    def activate(self, module: Any, x: Tensor) -> Tensor:
        """GELU of x (N, n_inner), in place."""
        return apply_gelu(x)

    def add(self, x: Tensor, attended: Tensor, told: Tensor) -> Tensor:
        """x + attended + told, all (N, n_embd), in place."""
        assert x.dtype == attended.dtype == told.dtype
        assert x.shape == attended.shape == told.shape
        assert x.is_contiguous()
        a, b = attended.contiguous(), told.contiguous()
        cpu.library.d8_add(
            cpu.DTYPES[x.dtype], x.data_ptr(), a.data_ptr(), b.data_ptr(), x.numel(), torch.get_num_threads()
        )
        return x
