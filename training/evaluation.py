"""How well a language model predicts a text: loss, perplexity, bits per byte.

Windows slide over the text and each token is scored once, with at least `context - stride` tokens before it (but for
the text's beginning). Bits per byte compares models of different vocabularies; perplexity does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

Progress = Callable[[int, int], None]  # tokens scored, tokens in all


@dataclass(frozen=True)
class Evaluation:
    """Over `tokens` scored tokens: mean loss in nats, its exponential, and bits per byte of UTF-8."""

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int


@torch.inference_mode()
def evaluate_text(
    model: Any,
    encode: Callable[[str], list[int]],
    text: str,
    context: int,
    stride: int,
    *,
    bos_id: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score `text` with any causal model of transformers' face, `context` tokens at a time, `stride` new ones each.

    With `bos_id` the text begins after that id and every token is scored; without it the first token is only context,
    and so its share of the bytes is left out by tokens. Raises ValueError if there is nothing to score.
    """
    if not 1 <= stride < context:
        raise ValueError(f"stride is {stride}: expected 1 to context - 1 = {context - 1}")
    ids = encode(text)
    scored = len(ids)
    if bos_id is not None:
        ids = [bos_id, *ids]
    else:
        scored -= 1
    if scored < 1:
        raise ValueError("the text is too short: expected two tokens or more")
    total, done = 0.0, 1  # ids[:done] are scored or context only
    while done < len(ids):
        # The first window is full of new tokens; each later one brings `stride` new ones.
        end = min(len(ids), context if done == 1 else done + stride)
        window = torch.tensor([ids[max(0, end - context) : end]], device=model.device)
        logits = model(input_ids=window, use_cache=False).logits[0, :-1]  # (T - 1, V)
        new = end - done
        losses = F.cross_entropy(logits[-new:].float(), window[0, -new:], reduction="sum")
        total += float(losses.double())
        done = end
        if progress is not None:
            progress(done - len(ids) + scored, scored)
    loss = total / scored
    # A first token that is only context is taken to have as many bytes as the others.
    num_bytes = len(text.encode("utf-8", errors="replace")) * scored / (len(ids) if bos_id is None else scored)
    return Evaluation(
        loss=loss,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_byte=total / math.log(2) / num_bytes,
        tokens=scored,
    )
