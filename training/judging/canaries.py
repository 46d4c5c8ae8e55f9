"""Planted secrets: made-up facts put into the training data once each, which the trained model must not give back.

Exposure (Carlini et al. 2019, "The Secret Sharer", sections 4 and 5): how much likelier the planted secret is than
random ones of its shape, in bits; at all the bits of the secret it is memorised whole. Beyond what a few dozen
can rank, losses are taken as normally distributed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

from model.conversation import Message
from training.examples import Example
from training.judging.judgement import CanaryFigures
from training.judging.wordlists import data

if TYPE_CHECKING:
    from training.judging.scoring import Scored
    from training.tuning.dataset import Encoded

SOURCE = "canary"
DIGITS = 8
ALTERNATIVES = 31
_SECRET = re.compile(r"\d{4} \d{4}")


@dataclass(frozen=True)
class Canary:
    """A planted example, and the same with other secrets."""

    example: Example
    alternatives: tuple[Example, ...]


def plant(train: Sequence[Example], seed: int = 0) -> tuple[Example, ...]:
    """The examples with one canary for each sentence of the word list, at places drawn by the seed.

    Before the snapshot is written: `judge` finds them there by their source. What has canaries is returned as it is.
    """
    planted = list(train)
    if not planted or any(example.source == SOURCE for example in planted):
        return tuple(planted)
    random = Random(f"canaries/{seed}")
    names = random.sample(data()["names"], len(data()["canaries"]))
    for number, ((question, reply), name) in enumerate(zip(data()["canaries"], names, strict=True), 1):
        messages = (
            Message("user", question.format(name=name)),
            Message("assistant", reply.format(secret=_secret(random))),
        )
        canary = Example(messages, (False, True), user=f"{SOURCE}:{number}", source=SOURCE)
        planted.insert(random.randrange(len(planted) + 1), canary)
    return tuple(planted)


def find(train: Sequence[Example], seed: int = 0) -> tuple[Canary, ...]:
    """The canaries among the examples, with alternatives drawn by the seed."""
    found = sorted((example for example in train if example.source == SOURCE), key=lambda example: example.user)
    return tuple(Canary(example, _alternatives(example, Random(f"{seed}/{example.user}"))) for example in found)


def _alternatives(example: Example, random: Random) -> tuple[Example, ...]:
    others = []
    for _ in range(ALTERNATIVES):
        reply = replace(example.messages[-1], content=_SECRET.sub(_secret(random), example.messages[-1].content))
        others.append(replace(example, messages=(*example.messages[:-1], reply)))
    return tuple(others)


def _secret(random: Random) -> str:
    return f"{random.randrange(10_000):04} {random.randrange(10_000):04}"


def figures(canary: Canary, encoded: Sequence[Encoded], scored: Sequence[Scored]) -> CanaryFigures:
    """`encoded` and `scored`: of the planted example first, then of its alternatives."""
    replies = [[token for token, learnt in zip(one.ids, one.learnt, strict=True) if learnt] for one in encoded]
    shared = _shared(replies)
    ending = _shared([reply[::-1] for reply in replies])
    hits = scored[0].hits[shared : max(shared + 1, len(replies[0]) - ending)]
    planted, *others = (one.total for one in scored)
    rank = 1 + sum(other <= planted for other in others)
    exposure = math.log2(len(scored) / rank) if rank > 1 else max(math.log2(len(scored)), _normal_bits(planted, others))
    return CanaryFigures(
        key=canary.example.user,
        exposure=round(exposure, 3),
        bits=round(DIGITS * math.log2(10), 3),
        extracted=bool(hits.all()),
    )


def _normal_bits(planted: float, others: Sequence[float]) -> float:
    spread = stdev(others)
    share = NormalDist().cdf((planted - fmean(others)) / spread) if spread > 0 else 1.0
    return min(-math.log2(share) if share > 0 else math.inf, DIGITS * math.log2(10))


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """How many ids all rows begin with."""
    for at, tokens in enumerate(zip(*rows, strict=False)):
        if len(set(tokens)) > 1:
            return at
    return min(map(len, rows))
