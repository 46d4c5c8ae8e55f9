"""A model of a named shape whose weights are random codes, made in place: nothing is quantised and no file is read.

Always: every byte of the weights is memory of its own (nothing is shared between layers, or caches would flatter the
figures), activations stay finite, and no stored byte is `UNUSED`, so that a scan for it reads the whole weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.shapes import Shape
from model.dynamic8 import code_table
from model.gptj import GPTJ8bitForCausalLM
from model.gptj_config import GPTJ8bitConfig
from model.layers import Embedding8bit, Linear8bit

UNUSED = 127  # the code whose value is 0
PATTERN_BYTES = 2**24 + 4099  # of random bytes, repeated; an odd number, so that rows differ
GAIN = 0.7  # of a layer: standard deviation out over in
NUMBERS = ("n_layer", "n_embd", "n_head", "rotary_dim", "vocab_size", "num_tokens", "n_positions")


class Letters:
    """Stands in for a tokenizer where only ids matter: every id is one letter."""

    _drops_first_space = False

    @staticmethod
    def token_bytes(token: int) -> bytes:
        return bytes((97 + token % 26,))


def random_model(shape: Shape, dtype: torch.dtype, in_8bit: bool = True, device: str = "cpu") -> GPTJ8bitForCausalLM:
    """A frozen model of `shape` in eval mode; without `in_8bit` its weights are plain ones in `dtype`."""
    block_size = shape.block_size if in_8bit else None
    config = GPTJ8bitConfig(**shape.numbers(*NUMBERS), block_size=block_size, bos_token_id=0, eos_token_id=0)
    with torch.device("meta"):
        model: Any = GPTJ8bitForCausalLM(config)
    model = model.to(dtype).to_empty(device=device).eval()
    pattern = torch.randint(0, 255, (PATTERN_BYTES,), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    pattern[pattern == UNUSED] = 255
    noise = torch.randn(PATTERN_BYTES // 2, generator=torch.Generator().manual_seed(2)).to(device, dtype)
    rms = code_table()[pattern.long()].square().mean().sqrt()
    pattern = pattern.to(device)
    for module in model.modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            _tile(module.weight.data, pattern)
            module.absmax.fill_(GAIN / (module.weight.shape[1] ** 0.5 * float(rms)))
            module.code.copy_(code_table())
        elif isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            _tile(module.weight.data, noise)
            module.weight.data.mul_(GAIN / module.weight.shape[1] ** 0.5)
        elif isinstance(module, torch.nn.LayerNorm):
            module.weight.data.fill_(1.0)
            module.bias.data.zero_()
        if isinstance(module, Linear8bit | torch.nn.Linear) and module.bias is not None:
            module.bias.data.zero_()
    return model.requires_grad_(False)


def _tile(target: Tensor, pattern: Tensor) -> None:
    """Fill `target` with `pattern` over and over."""
    flat = target.view(-1)
    for start in range(0, len(flat), len(pattern)):
        part = flat[start : start + len(pattern)]
        part.copy_(pattern[: len(part)])


def linears(model: Any) -> list[Linear8bit]:
    """The layers that a token of decoding goes through, in order."""
    return [module for module in model.modules() if isinstance(module, Linear8bit)]
