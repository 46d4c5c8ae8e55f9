"""transformers' own GPT-J for `benchmarks.gpu`: in 16 bits, also compiled with a static cache, and with bitsandbytes'
LLM.int8 layers.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.gpu_parts import PROMPT, Figures, Part
from benchmarks.process import median
from benchmarks.shapes import Shape

NUMBERS = ("n_layer", "n_embd", "n_head", "rotary_dim", "vocab_size", "n_positions")
GAIN, FEW = 0.7, 4


class Transformers(Part):
    """GPTJForCausalLM with random weights; in_int8 puts Linear8bitLt into its layers."""

    def __init__(self, shape: Shape, device: str, quick: bool, in_int8: bool = False) -> None:
        super().__init__(shape, device, quick)
        from transformers import GPTJConfig, GPTJForCausalLM

        config = GPTJConfig(**shape.numbers(*NUMBERS), bos_token_id=0, eos_token_id=None, pad_token_id=0)
        dtype = torch.float16 if device == "cuda" else torch.bfloat16
        with torch.device("meta"):
            model: Any = GPTJForCausalLM(config)
        noise = torch.randn(2**24 + 4099).to(dtype)
        if in_int8:
            for block in model.transformer.h:
                for parent in (block.attn, block.mlp):
                    for name, layer in list(parent.named_children()):
                        if isinstance(layer, torch.nn.Linear):
                            setattr(parent, name, _int8(layer, noise, device))
        self.model = _filled(model, noise.to(device), dtype, device)

    def eager_1(self) -> Figures:
        return {"decode_1": self._rate(1, {})}

    def eager_32(self) -> Figures:
        return {"decode_32": self._rate(32, {})}

    def static_1(self) -> Figures:
        self.only_on_a_gpu()
        return {"decode_1": self._rate(1, {"cache_implementation": "static"})}

    def static_32(self) -> Figures:
        self.only_on_a_gpu()
        return {"decode_32": self._rate(32, {"cache_implementation": "static"})}

    def _rate(self, batch: int, how: dict[str, str]) -> float:
        """Tokens/s in all, from the first few tokens of a reply on; the first reply warms up (and compiles)."""
        ids = torch.full((batch, PROMPT), 5, device=self.device)
        length = {"max_new_tokens": FEW + self.tokens, "min_new_tokens": FEW + self.tokens, "do_sample": False}
        rates = []
        for _ in range(1 + min(3, self.repeats)):
            told = _Told()
            with torch.inference_mode():
                mask = torch.ones_like(ids)
                self.model.generate(ids, attention_mask=mask, pad_token_id=0, streamer=told, **length, **how)
            rates.append(batch * (len(told.times) - 1 - FEW) / (told.times[-1] - told.times[FEW]))
        return median(rates[1:])


class _Told:
    """Notes when each token is there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, tokens: torch.Tensor) -> None:
        self.times.append(time.perf_counter())  # generate has brought them to the CPU

    def end(self) -> None:
        pass


def _filled(model: Any, noise: torch.Tensor, dtype: torch.dtype, device: str) -> Any:
    """Every tensor that is still on the meta device gets memory and sane content."""
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None or not tensor.is_meta:
                    continue
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                new = torch.full(tensor.shape, 0.5 if tensor.is_floating_point() else 0, dtype=kind, device=device)
                if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and tensor.dim() == 2:
                    _tile(new, noise)
                is_parameter = isinstance(tensor, torch.nn.Parameter)
                own[name] = torch.nn.Parameter(new, requires_grad=False) if is_parameter else new
    return model.eval()


def _int8(layer: torch.nn.Linear, noise: torch.Tensor, device: str) -> Any:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    made = Linear8bitLt(
        layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False, threshold=6.0
    )
    weight = torch.empty(layer.out_features, layer.in_features, dtype=noise.dtype)
    _tile(weight, noise)
    made.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    if made.bias is not None:
        made.bias = torch.nn.Parameter(torch.zeros(layer.out_features, dtype=noise.dtype), requires_grad=False)
    return made.to(device)


def _tile(target: torch.Tensor, noise: torch.Tensor) -> None:
    flat = target.view(-1)
    for start in range(0, len(flat), len(noise)):
        part = flat[start : start + len(noise)]
        torch.mul(noise[: len(part)], GAIN / target.shape[1] ** 0.5, out=part)
