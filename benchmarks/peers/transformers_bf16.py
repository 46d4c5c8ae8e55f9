"""transformers' own GPT-J with bf16 weights and `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import Generate
from benchmarks.shapes import Shape

NUMBERS = ("n_layer", "n_embd", "n_head", "rotary_dim", "vocab_size", "n_positions")


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    import torch
    from transformers import GPTJConfig, GPTJForCausalLM

    torch.set_num_threads(threads)
    config = GPTJConfig(**shape.numbers(*NUMBERS), bos_token_id=0, eos_token_id=None)
    with torch.device("meta"):
        model: Any = GPTJForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu").eval()
    noise = torch.randn(2**24 + 4099).bfloat16()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.dim() == 2 and name.endswith(".weight"):
            flat = tensor.data.view(-1)
            for start in range(0, len(flat), len(noise)):
                part = flat[start : start + len(noise)]
                part.copy_(noise[: len(part)] * (0.7 / tensor.shape[1] ** 0.5))
        else:  # norms, biases, the table of the rotary angles: any sane number
            tensor.data.fill_(0.5 if tensor.is_floating_point() else 0)

    @torch.inference_mode()
    def generate(ids: list[int], num_tokens: int) -> Any:
        length = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens, "do_sample": False}
        prompt = torch.tensor([ids])
        return model.generate(prompt, attention_mask=torch.ones_like(prompt), pad_token_id=0, **length)

    return generate
