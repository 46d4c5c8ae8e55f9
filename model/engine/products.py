"""Products of the same rows with several weights of the model, attention, whole passes: what goes in one call.

The compiled CPU kernels do each of them in one; everything else goes weight by weight, conversation by conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model.kernels import ops
from model.layers import Linear8bit

if TYPE_CHECKING:
    from model.kernels.cpu_blocks import Blocks
    from model.kernels.cpu_passes import Attention
    from model.kernels.cpu_prompts import PromptAttention

Products = Callable[[Tensor, list[Tensor] | None], list[Tensor]]
BlockProducts = tuple[nn.LayerNorm, Products, Products, Products]  # LayerNorm; q, k, v and fc_in; out_proj; fc_out


def products(modules: Sequence[nn.Module]) -> Products:
    """(x (N, K), what an earlier call gave and nobody needs any more, or None) -> what each module makes of x.

    Fresh memory costs page faults, a tenth of a long prompt's time where there are matrix tiles. Call it anew when a
    weight or a bias was moved or loaded anew.
    """
    if all(isinstance(module, Linear8bit) for module in modules) and has_cpu_kernels(modules[0].weight):
        from model.kernels.cpu_passes import Together, can_go_together

        layers: Any = modules
        stored = [(each.weight.data, each.absmax, each.code, each.block_size, each.bias) for each in layers]
        for codes, absmax, code, block_size, _ in stored:
            ops.check_storage(codes, absmax, code, block_size)
        if can_go_together(stored):
            return Together(stored)
    return lambda x, into: [module(x) for module in modules]


def activated(product: Products) -> Products | None:
    """The same with GELU by tanh of the last thing it gives, where one call does both."""
    return getattr(product, "activated", None)


def has_cpu_kernels(tensor: Any) -> bool:
    """Whether the compiled CPU kernels are those in use where the tensor is."""
    return bool(tensor.device.type == "cpu" and ops.kernels("cpu").__name__ == ops.KERNELS["cpu"])


def attention_at_once(tensor: Tensor) -> type[Attention] | None:
    """The attention of the compiled kernels, where it serves keys and values like this tensor."""
    if not has_cpu_kernels(tensor) or tensor.dtype not in (torch.float32, torch.bfloat16):
        return None
    from model.kernels.cpu_passes import Attention

    return Attention


def prompt_attention(tensor: Tensor) -> PromptAttention | None:
    """The attention of the compiled kernels for a prompt, where the tensor is; it says itself whether it serves."""
    if not has_cpu_kernels(tensor):
        return None
    from model.kernels.cpu_prompts import PromptAttention

    return PromptAttention()


def blocks_at_once(blocks: Sequence[BlockProducts]) -> Blocks | None:
    """All blocks of a model in one call of the compiled kernels, where they serve its products."""
    if not has_cpu_kernels(blocks[0][0].weight):
        return None
    from model.kernels.cpu_blocks import Blocks, are_alike
    from model.kernels.cpu_passes import Together

    found: list[Any] = [product for _, *three in blocks for product in three]
    if not all(isinstance(product, Together) for product in found) or not are_alike(found):
        return None
    served: Any = blocks
    return Blocks(served)
