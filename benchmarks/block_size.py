"""What 8 bits cost a trained model, by block size: error of the weights, perplexity against float32 and 16 bits.

    python -m benchmarks.block_size FLOAT_FOLDER

FLOAT_FOLDER is a native checkpoint with float weights (block_size null), such as `tertulia pretrain export --float`
writes. Perplexity is measured on the prose in benchmarks/held_out_prose.txt and on the held-out dialogues, in float32
arithmetic, so that only storage differs. The last line is the figures as JSON.
"""

import argparse
import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, Tokenizer
from model.conversation import Message, render
from model.dynamic8 import BLOCK_SIZES, quantize
from model.layers import Embedding8bit, Linear8bit
from model.prompt_formats import get_format
from training.pretrain import charla

PROSE = Path(__file__).parent / "held_out_prose.txt"
STORED = ["float32", "bfloat16", "float16", *BLOCK_SIZES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tokenizer, original = Tokenizer.from_pretrained(folder), GPTJ8bitForCausalLM.from_pretrained(folder)
    examples = list(_examples(tokenizer, original.config))
    rows = []
    for stored in STORED:
        model, error = _stored_as(original, stored)
        bits = _bits(original.config, stored)
        rows.append({"stored": stored, "bits": bits, "error": error, "perplexity": _perplexity(model, examples)})
    base = rows[0]["perplexity"]
    print(f"{'stored as':>12} {'bits/weight':>12} {'rms error':>10} {'perplexity':>11} {'against float32':>16}")
    for row in rows:
        row["change_percent"] = 100 * (row["perplexity"] / base - 1)
        print(
            f"{row['stored']!s:>12} {row['bits']:12.2f} {row['error']:10.5f} {row['perplexity']:11.4f} "
            f"{row['change_percent']:+15.3f} %"
        )
    print(json.dumps(rows))


def _stored_as(original: GPTJ8bitForCausalLM, stored: str | int) -> tuple[GPTJ8bitForCausalLM, float]:
    """A model whose matrices went through that storage, computing in float32, and their relative rms error."""
    weights = {name: value for name, value in original.state_dict().items() if value.dim() == 2}
    if isinstance(stored, str):
        model = copy.deepcopy(original)
        back = {name: value.to(getattr(torch, stored)).float() for name, value in weights.items()}
        model.load_state_dict(back, strict=False)
    else:
        model = GPTJ8bitForCausalLM(GPTJ8bitConfig(**{**original.config.to_dict(), "block_size": stored})).eval()
        model.load_state_dict({n: v for n, v in original.state_dict().items() if n not in weights}, strict=False)
        back = {}
        for name, module in model.named_modules():
            if isinstance(module, Linear8bit | Embedding8bit):
                module.store(quantize(weights[f"{name}.weight"], stored))
                back[f"{name}.weight"] = module.quantized.dequantize()
    wrong = sum(float((back[name] - value).square().sum()) for name, value in weights.items())
    return model, math.sqrt(wrong / sum(float(value.square().sum()) for value in weights.values()))


def _bits(config: GPTJ8bitConfig, stored: str | int) -> float:
    """Bits a weight, scales included."""
    return {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0}[stored] if isinstance(stored, str) else 8 + 32 / stored


def _examples(tokenizer: Tokenizer, config: GPTJ8bitConfig) -> Iterator[tuple[list[int], list[bool]]]:
    """(ids, which of them are measured) of every held-out document and dialogue."""
    fmt = get_format(config.prompt_format)
    for text in PROSE.read_text(encoding="utf-8").split("<|endoftext|>"):
        ids = tokenizer.encode_document(text.strip())[: config.n_positions]
        yield ids, [True] * len(ids)
    for turns in charla.load().held_out_dialogues:
        messages = [
            Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        rendered = render(messages, fmt, tokenizer, max_tokens=config.n_positions)
        yield rendered.ids, rendered.loss_mask


@torch.inference_mode()
def _perplexity(model: GPTJ8bitForCausalLM, examples: list[tuple[list[int], list[bool]]]) -> float:
    nats = count = 0.0
    for ids, measured in examples:
        logits = model(torch.tensor([ids[:-1]])).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        mask = torch.tensor(measured[1:])
        nats, count = nats + float(losses[mask].sum()), count + int(mask.sum())
    return math.exp(nats / count)


if __name__ == "__main__":
    main()
