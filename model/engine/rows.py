"""What a block does to rows of activations between its products: LayerNorm, rotary, the MLP's activation, the sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.engine.products import has_cpu_kernels

if TYPE_CHECKING:
    from model.kernels.cpu_rows import CompiledRows

GELU_BY_TANH = ("gelu_new", "gelu_pytorch_tanh")


class TorchRows:
    """By torch, on any device. The compiled kernels may write over what they are given, so nobody may use it again."""

    def expect(self, buffer: Tensor, first: int, last: int) -> None:
        """Positions first ... last of a conversation's keys and values will be written; they may be fresh memory."""

    def norm(self, module: Any, x: Tensor) -> Tensor:
        """LayerNorm of x (N, n_embd); x stays as it is."""
        return torch.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)

    def turn(self, x: Tensor, turns: Tensor) -> Tensor:
        """x (N, H, D) with the interleaved pairs of its first 2 P entries turned by turns (N, 1, P) complex, in
        float32."""
        size = 2 * turns.shape[-1]
        pairs = x[..., :size].float().unflatten(-1, (-1, 2)).contiguous()
        turned: Tensor = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
        if size == x.shape[-1]:
            return turned.to(x.dtype)
        return torch.cat((turned.to(x.dtype), x[..., size:]), dim=-1)

    def activate(self, module: Any, x: Tensor) -> Tensor:
        """The MLP's activation of x (N, n_inner)."""
        activated: Tensor = module(x)
        return activated

    def add(self, x: Tensor, attended: Tensor, told: Tensor) -> Tensor:
        """x + attended + told, all (N, n_embd)."""
        return x + attended + told


def rows_for(norms: Sequence[Any], activation: str) -> TorchRows | CompiledRows:
    """The compiled kernels where they serve a model with these LayerNorms, else torch."""
    tensors = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
    if activation in GELU_BY_TANH and all(has_cpu_kernels(tensor) for tensor in tensors):
        from model.kernels.cpu import DTYPES
        from model.kernels.cpu_rows import CompiledRows

        if tensors[0].dtype in DTYPES and len({tensor.dtype for tensor in tensors}) == 1:
            return CompiledRows()
    return TorchRows()
