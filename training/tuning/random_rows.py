"""Rows of random ids, to be measured with."""

from __future__ import annotations

from random import Random
from typing import Any

from training.tuning.dataset import Encoded, context_of
from training.tuning.presets import TuneOptions


def full_row(tokens: int, options: TuneOptions, config: Any) -> list[tuple[Encoded, ...]]:
    """A unit of about `tokens` ids for a model with this config, as many examples as must be, all of them learnt.

    Raises TuneError if the options' context is not the model's.
    """
    longest = min(context_of(options, config), tokens)
    count = -(-tokens // longest)
    count += count % 2 if options.method == "dpo" else 0
    return [random_unit(tokens // count, count, config.num_tokens or config.vocab_size)]


def random_unit(length: int, count: int, num_tokens: int) -> tuple[Encoded, ...]:
    """`count` examples of `length` random ids."""
    random = Random(1)
    return tuple(
        Encoded([random.randrange(num_tokens) for _ in range(length)], [False] + [True] * (length - 1))
        for _ in range(count)
    )
