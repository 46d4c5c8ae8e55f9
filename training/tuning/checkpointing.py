"""What a training step keeps of its way forward, and what it computes again on its way back.

Always: the same numbers come out, whatever is chosen. What is computed again ends before the last product of attention
and MLP (`GPTJBlock.halves`): a frozen product keeps nothing but its codes, so computing it twice would buy nothing.
That leaves 7/12 of a layer's arithmetic. Chen et al. 2016, Training deep nets with sublinear memory cost.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from model.gptj_block import GPTJBlock
from training.tuning.presets import Checkpointing


def keep_less(model: nn.Module, checkpointing: Checkpointing, offload: bool) -> None:
    """Let the blocks of `model` compute this much again from now on; called again it replaces what was said before.

    offload: the input of each layer, all that "layers" keeps of it, waits in the CPU's memory (pinned, for a GPU).
    """
    blocks = [module for module in model.modules() if isinstance(module, GPTJBlock)]
    drops = any(block.attn.config.attn_pdrop for block in blocks)
    drops = drops or any(module.p for module in model.modules() if isinstance(module, nn.Dropout))
    for block in blocks:
        block.__dict__.pop("halves", None)  # back to the class's own
        if checkpointing != "none":
            # A proxy: a block that held itself would keep the weights until the next garbage collection.
            here = partial(_PARTS[checkpointing], weakref.proxy(block), _Again(drops, offload))
            block.__dict__["halves"] = here


class _Again:
    """Runs a function and keeps its first argument only; the rest of it is computed again when it is asked for."""

    def __init__(self, drops: bool, offload: bool) -> None:
        self.drops, self.offload = drops, offload

    def __call__(self, function: Callable[..., Any], x: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return function(x)
        with save_on_cpu(pin_memory=x.is_cuda) if self.offload else nullcontext():
            return checkpoint(function, x, use_reentrant=False, preserve_rng_state=self.drops)


def _whole(block: Any, again: _Again, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    return again(lambda x: GPTJBlock.halves(block, x, *args, **kwargs), x)


def _attention(block: Any, again: _Again, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """The LayerNorm is computed for each half: its result is then kept by neither."""
    mixed = again(lambda x: block.attn.mix(block.ln_1(x), *args, **kwargs), x)
    return mixed, block.mlp.inner(block.ln_1(x))


def _mlp(block: Any, again: _Again, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    inner = again(lambda x: block.mlp.inner(block.ln_1(x)), x)
    return block.attn.mix(block.ln_1(x), *args, **kwargs), inner


_PARTS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"layers": _whole, "attention": _attention, "mlp": _mlp}
