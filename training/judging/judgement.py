"""What a contest measured, as plain figures: enough for `gate.decide`, the report and a later look, without torch.

Always: all contestants were measured on the same units in the same order, so every comparison is paired; every loss is
finite, so the file is strict JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.whole_file import write_whole

BASE, IN_SERVICE, CANDIDATE = "base", "in_service", "candidate"  # the names of the contestants that `decide` looks for
VERSION = 1
MAX_LOSS = 100.0  # nats; a loss that is not finite counts as this
SIDE_BY_SIDE = 20


class JudgeError(TrainingError):
    """A contest cannot be held, or what it measured cannot be read or compared."""


@dataclass(frozen=True)
class Unit:
    """A person of the held-out set, or a prompt of a fixed set: its tokens and each contestant's summed loss."""

    key: str
    tokens: int
    losses: Mapping[str, float]  # by contestant, nats, summed over the tokens


@dataclass(frozen=True)
class ReplyFigures:
    """Counts over one contestant's greedy replies."""

    replies: int
    failed: int  # the model gave no finite logits
    empty: int
    loops: int
    refusals: int
    toxic: int
    toxic_words: tuple[str, ...]
    median_words: float
    repetition: float  # mean share of the word pairs of a reply that it said before


@dataclass(frozen=True)
class CanaryFigures:
    """Of one planted secret and one contestant: bits of exposure, of how many, and whether greedy decoding says it."""

    key: str
    exposure: float
    bits: float
    extracted: bool


@dataclass(frozen=True)
class Pair:
    """One prompt with every contestant's reply. `source`: held_out, regression, or loudest (trained on most)."""

    prompt: str
    replies: Mapping[str, str]
    source: str


@dataclass(frozen=True)
class Judgement:
    """All of it. `contestants`: the adapter's folder by name, None for the bare base.

    `regression`, `abuse` and `decency` are losses on the insides of fixed replies, see `held_out.insides`; `abuse` and
    `decency` are an abusive and a decent reply to the same prompts, in the same order.
    """

    contestants: Mapping[str, str | None]
    held_out: tuple[Unit, ...]
    regression: tuple[Unit, ...]
    abuse: tuple[Unit, ...]
    decency: tuple[Unit, ...]
    replies: Mapping[str, ReplyFigures]
    canaries: Mapping[str, tuple[CanaryFigures, ...]]
    pairs: tuple[Pair, ...]
    seed: int
    seconds: float

    def loss(self, name: str, which: str = "held_out") -> float:
        """Mean loss a token, in nats, of a contestant on "held_out", "regression", ...; nan without tokens."""
        units: tuple[Unit, ...] = getattr(self, which)
        tokens = sum(unit.tokens for unit in units)
        return sum(unit.losses[name] for unit in units) / tokens if tokens else math.nan

    def perplexity(self, name: str, which: str = "held_out") -> float:
        return math.exp(self.loss(name, which))

    @property
    def side_by_side(self) -> list[tuple[str, dict[str, str]]]:
        """The first twenty prompts, held-out ones first, each with every contestant's reply."""
        return [(pair.prompt, dict(pair.replies)) for pair in self.pairs[:SIDE_BY_SIDE]]

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Judgement:
        """Raises JudgeError for another version or fields that are missing."""
        if fields.get("version") != VERSION:
            raise JudgeError(f"the judgement's version is {fields.get('version')!r}, expected {VERSION}: judge again")
        try:
            return cls(
                contestants=dict(fields["contestants"]),
                held_out=tuple(Unit(**unit) for unit in fields["held_out"]),
                regression=tuple(Unit(**unit) for unit in fields["regression"]),
                abuse=tuple(Unit(**unit) for unit in fields["abuse"]),
                decency=tuple(Unit(**unit) for unit in fields["decency"]),
                replies={
                    name: ReplyFigures(**{**figures, "toxic_words": tuple(figures["toxic_words"])})
                    for name, figures in fields["replies"].items()
                },
                canaries={
                    name: tuple(CanaryFigures(**figures) for figures in each)
                    for name, each in fields["canaries"].items()
                },
                pairs=tuple(Pair(**pair) for pair in fields["pairs"]),
                seed=int(fields["seed"]),
                seconds=float(fields["seconds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JudgeError(f"the judgement is damaged ({error!r}): judge again") from None

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        text = json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
        write_whole(path, text.encode("utf-8", errors="replace"))

    @classmethod
    def read(cls, path: Path) -> Judgement:
        """Raises JudgeError naming the file."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(fields, dict):
                raise JudgeError("it holds no JSON object")
            return cls.from_json(fields)
        except (OSError, ValueError, JudgeError) as error:
            raise JudgeError(f"{path} cannot be read ({error}): judge again") from None
