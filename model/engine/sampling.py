"""From one row of logits to one token id.

Order: repetition penalty, temperature, top-k, min-p, top-p, draw. The penalty (Keskar et al. 2019, CTRL, section 4.1)
counts generated tokens only: over the prompt it would forbid the words that the user has just said, such as a name.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.engine.params import SamplingParams
from model.errors import ModelError

__all__ = ["SamplingParams", "make_generator", "sample"]

NOT_FINITE = "the model gave NaN or infinite logits: run `tertulia verify` on it, or use float32"
FEW = 64  # candidates looked at before the whole vocabulary is sorted


def make_generator(seed: int | None) -> torch.Generator:
    """A CPU generator at `seed`, or at a random state."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def sample(logits: Tensor, params: SamplingParams, generator: torch.Generator, generated_ids: Sequence[int]) -> int:
    """logits (V,), -inf for ids that cannot be -> one id. On the CPU in float32: a seed means the same on any device.

    Raises ModelError if the logits hold NaN or no finite value.
    """
    scores = logits.detach().to("cpu", torch.float32)
    if not math.isfinite(float(scores.max())):  # NaN wins a max
        raise ModelError(NOT_FINITE)
    if params.repetition_penalty != 1.0 and generated_ids:
        scores = penalize(scores, generated_ids, params.repetition_penalty)
    if params.temperature == 0.0:
        return int(scores.argmax())
    scores = (scores - scores.max()) / params.temperature  # the shift keeps tiny temperatures finite
    if 0 < params.top_k < scores.numel():
        scores = keep_top_k(scores, params.top_k)
    probabilities = scores.softmax(dim=-1)
    if params.min_p > 0.0:
        probabilities = probabilities.masked_fill(probabilities < params.min_p * probabilities.max(), 0.0)
    if params.top_p < 1.0:
        likely, order = likeliest(probabilities, params.top_p)
        return int(order[torch.multinomial(likely, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalize(scores: Tensor, generated_ids: Sequence[int], penalty: float) -> Tensor:
    """Divide positive scores of generated ids by `penalty`, multiply negative ones; once each, however often said."""
    seen = torch.tensor(sorted(set(generated_ids)))
    values = scores[seen]
    return scores.index_copy(0, seen, torch.where(values > 0, values / penalty, values * penalty))


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """-inf for all but the k highest scores; those that tie with the k-th stay."""
    return scores.masked_fill(scores < scores.topk(k).values[-1], float("-inf"))


def likeliest(probabilities: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The fewest likeliest ids whose probabilities add up to p of all or more: their probabilities and ids, falling.

    Nearly always they are among the first few, and sorting a vocabulary costs more than the rest of the step.
    """
    whole = probabilities.sum() * p
    size = min(FEW, probabilities.numel())
    ordered, order = probabilities.topk(size)
    if float(ordered.sum()) < float(whole):
        ordered, order = probabilities.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    count = int((before < whole).sum())
    return ordered[:count], order[:count]
