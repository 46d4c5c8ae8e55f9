"""What the engine does with a model: tokens/s of one and of many chats, time to first token, resident memory.

    python -m benchmarks.generate                          # 4 layers of the 6B shape, about two minutes
    python -m benchmarks.generate --shape 6b               # the whole shape: 8 GB; --quick for a third of the time
    python -m benchmarks.generate --shape embedded

The 6B shapes have random weights (only their size matters here). Beside each figure stands what bounds it, probed in
turn with it: the kernels alone and a plain read of the same weights for decoding, the best bf16 matrix product for
prefill. Medians. The last line is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import torch

from benchmarks.machine import matrix_gflops, read_gbs
from benchmarks.process import forget_peak, median, percentile, resident_mib, seconds
from benchmarks.random_model import Letters, linears, random_model
from benchmarks.replies import Reply, ask, ask_at_once, random_ids
from benchmarks.shapes import SHAPES
from model.engine.engine import Engine
from model.kernels import ops

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TURNS, NEW_WORDS, REPLY = 10, 32, 16  # of a chat: turns, tokens that the person says, tokens of the reply
CHATS = (1, 4, 8, 16, 64)


class Figures:
    """Prints each figure as it comes and keeps it under its name for the last line."""

    def __init__(self, **about: object) -> None:
        self.values: dict[str, object] = dict(about)

    def show(self, name: str, value: float, unit: str, digits: int = 2) -> None:
        self.values[name.strip()] = round(value, digits)
        print(f"{name:58} {value:10.{digits}f} {unit}", flush=True)


def load(shape: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """-> model, tokenizer."""
    if shape != "embedded":
        return random_model(SHAPES[shape], dtype), Letters()
    from model import hub
    from model.gptj import GPTJ8bitForCausalLM
    from model.tokenizer import Tokenizer

    folder = hub.resolve("embedded")
    return GPTJ8bitForCausalLM.from_pretrained(folder, dtype=dtype).eval(), Tokenizer.from_pretrained(folder)


def one_chat(engine: Engine, figures: Figures, tokens: int, repeats: int) -> None:
    """Decoding for one chat, in turn with its products alone and with a plain read of its weights."""
    layers = linears(engine.model)
    weights = [layer.weight.data for layer in layers]
    size = sum(weight.numel() for weight in weights)
    dtype = engine.model.transformer.ln_f.weight.dtype
    inputs = [torch.randn(1, layer.in_features).to(dtype) for layer in layers]

    @torch.inference_mode()
    def products() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)

    step_s, products_s, read = [], [], []
    ask(engine, random_ids(engine, 64, 0), 4)  # warms up
    products()
    for repeat in range(repeats):
        step_s.append(1 / ask(engine, random_ids(engine, 64, repeat + 1), tokens + 1).decode_tokens_per_s)
        products_s.append(median([seconds(products) for _ in range(max(3, tokens // 4))]))
        read.append(read_gbs(weights))
    figures.show("decode, one chat", 1 / median(step_s), "tokens/s")
    figures.show("  a step", 1000 * median(step_s), "ms")
    figures.show("  its matrix-vector products alone", 1000 * median(products_s), "ms")
    figures.show("  engine above the products", 100 * (median(step_s) / median(products_s) - 1), "%", 1)
    figures.show("  weights streamed end to end", size / median(step_s) / 1e9, "GB/s")
    figures.show("  weights streamed by the products", size / median(products_s) / 1e9, "GB/s")
    figures.show("  the same weights read", median(read), "GB/s")
    shares = [100 * size / step / 1e9 / gbs for step, gbs in zip(step_s, read, strict=True)]
    figures.show("  end to end, share of the read bandwidth", median(shares), "%", 1)


def memory(engine: Engine, figures: Figures, length: int) -> None:
    """A chat that fills its context."""
    forget_peak()
    ask(engine, random_ids(engine, length - 9, 99), 8)
    figures.show(f"resident, a chat of {length} tokens", resident_mib() / 1024, "GiB")
    figures.show("  at the most during it", resident_mib("VmHWM") / 1024, "GiB")


def prefill(engine: Engine, figures: Figures, length: int, repeats: int) -> None:
    """A prompt of `length` tokens, in turn with the machine's best matrix product of as many rows."""
    config: Any = engine.model.config
    layers = linears(engine.model)
    in_layers = sum(layer.weight.numel() for layer in layers) - layers[-1].weight.numel()
    flop = 2 * length * in_layers + 2 * config.n_layer * config.n_embd * length**2 + 2 * layers[-1].weight.numel()
    took, peak = [], []
    for repeat in range(repeats):
        took.append(ask(engine, random_ids(engine, length, 100 + repeat), 1).first_s)
        peak.append(matrix_gflops(length, torch.bfloat16))
    figures.show(f"prefill of {length}", length / median(took), "tokens/s", 1)
    figures.show("  arithmetic done", flop / median(took) / 1e9, "GFLOP/s", 1)
    figures.show("  best bf16 matrix product", max(peak), "GFLOP/s", 1)
    figures.show("  share of the best product", 100 * flop / median(took) / 1e9 / max(peak), "%", 1)


def turns(engine: Engine, figures: Figures, repeats: int) -> None:
    """A chat whose every turn brings as many new words: what was said before is in the cache."""
    first_s: list[list[float]] = [[] for _ in range(TURNS)]
    for repeat in range(repeats):
        ids: list[int] = []
        for turn in range(TURNS):
            ids += random_ids(engine, NEW_WORDS, 1000 + TURNS * repeat + turn)
            reply = ask(engine, ids, REPLY, owner="chat")
            first_s[turn].append(reply.first_s)
            ids += reply.ids
    figures.show("first token, turn 1", 1000 * median(first_s[0]), "ms", 1)
    figures.show(f"first token, turn {TURNS}, {NEW_WORDS} new words each", 1000 * median(first_s[-1]), "ms", 1)
    figures.show(f"  turn {TURNS} over turn 1", median(first_s[-1]) / median(first_s[0]), "x")


def many_chats(engine: Engine, figures: Figures, chats: int, tokens: int) -> None:
    """So many chats that ask at the same moment."""
    prompts = [random_ids(engine, NEW_WORDS, 10_000 + 100 * chats + place) for place in range(chats)]
    replies = ask_at_once(engine, prompts, tokens)
    whole_s = max(reply.times[-1] for reply in replies) - min(reply.asked_at for reply in replies)
    figures.show(f"{chats} at once", sum(len(reply.ids) for reply in replies) / whole_s, "tokens/s in all", 1)
    if (together := decoding_together(replies)) is not None:
        figures.show(f"{chats} at once, while all of them are decoding", together, "tokens/s in all", 1)
    figures.show(f"{chats} at once, first token, p95", percentile([reply.first_s for reply in replies], 0.95), "s")


def decoding_together(replies: list[Reply]) -> float | None:
    """Tokens/s in all between the last first token and the first last one; None if the replies were not together."""
    start, end = max(reply.times[0] for reply in replies), min(reply.times[-1] for reply in replies)
    if end <= start:
        return None
    return sum(reply.tokens_between(start, end) for reply in replies) / (end - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="6b-4layers", choices=("embedded", *SHAPES))
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="of the activations")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kernels", default="auto", choices=("auto", *ops.KERNELS))
    parser.add_argument("--max-batch", type=int, default=16, help="slots of the engine")
    parser.add_argument("--chats", type=int, nargs="+", default=CHATS, help="how many at once")
    parser.add_argument("--quick", action="store_true", help="fewer tokens and repeats, a short chat for the memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ops.use(options.kernels)
    model, tokenizer = load(options.shape, DTYPES[options.dtype])
    kernels = ops.kernels().__name__.rpartition(".")[2]
    about = {name: getattr(options, name) for name in ("shape", "dtype", "threads", "max_batch")}
    print(", ".join(f"{name} {value}" for name, value in about.items()), f"kernels {kernels}", sep=", ")
    figures = Figures(**about, kernels=kernels)
    engine = Engine(model, tokenizer, max_batch=options.max_batch)
    tokens, repeats = (8, 3) if options.quick else (32, 5)
    figures.show("resident, loaded", resident_mib() / 1024, "GiB")
    one_chat(engine, figures, tokens, repeats)
    memory(engine, figures, min(engine.context, 256) if options.quick else engine.context)
    prefill(engine, figures, min(512, engine.context - 1), repeats - 2)
    turns(engine, figures, 1 if options.quick else 3)
    for chats in options.chats:
        many_chats(engine, figures, chats, tokens)
    figures.show("resident after all of it", resident_mib() / 1024, "GiB")
    engine.close()
    print(json.dumps(figures.values))


if __name__ == "__main__":
    main()
