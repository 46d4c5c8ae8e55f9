"""The measurements of a contest: every contestant on the same tokens and prompts, one after the other on one base."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from model.engine.adapters import Adapter
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.examples import Example
from training.judging import canaries
from training.judging.held_out import Encodings, choose, encode, insides
from training.judging.judgement import CanaryFigures, Unit
from training.judging.regression import regression_set
from training.judging.replies import Prompt, answer, by_person, of_loudest, prompts_of
from training.judging.scoring import Scored, score

Progress = Callable[[str, int, int], None]  # what is measured, done, in all
MayRun = Callable[[], bool]
WAIT_S = 0.2  # between two askings of may_run


@dataclass(frozen=True)
class JudgeOptions:
    """How much is measured. The caps keep one person, or a large log, from taking the whole time."""

    tokens_a_user: int = 300
    max_users: int = 100
    regression_replies: int = 40
    held_out_replies: int = 12
    loudest_replies: int = 20
    max_new_tokens: int = 80
    seed: int = 0


@dataclass(frozen=True)
class Jury:
    """The base with what every measurement needs; `adapters` by contestant, None for the bare base."""

    model: Any
    tokenizer: Tokenizer
    fmt: PromptFormat
    adapters: Mapping[str, Adapter | None]
    options: JudgeOptions
    on_progress: Progress | None = None
    may_run: MayRun | None = None

    @property
    def context(self) -> int:
        return int(self.model.config.n_positions)

    def held_out(self, examples: Sequence[Example]) -> tuple[Unit, ...]:
        """A unit for each person."""
        caps = (self.options.max_users, self.options.tokens_a_user)
        return self._units(
            "held-out people",
            choose(examples, self.fmt, self.tokenizer, self.context, caps, self.options.seed),
        )

    def fixed(self, what: str, examples: Sequence[Example]) -> tuple[Unit, ...]:
        """A unit for each example of a fixed set: the inside of its reply, see `held_out.insides`."""
        encodings = [(one.user, insides(self._encode(one), self.fmt, self.tokenizer)) for one in examples]
        return self._units(what, [(key, piece) for key, pieces in encodings for piece in pieces])

    def canaries(self, train: Sequence[Example]) -> dict[str, tuple[CanaryFigures, ...]]:
        """What each contestant gives away of the secrets that were planted in the training data."""
        planted = canaries.find(train, self.options.seed)
        encoded = [[self._encode(one)[0] for one in (canary.example, *canary.alternatives)] for canary in planted]
        sizes = [len(each) for each in encoded]
        flat = [piece for each in encoded for piece in each]
        found: dict[str, tuple[CanaryFigures, ...]] = {}
        for name, scored in self._scores("planted secrets", flat).items():
            parts = iter(scored)
            found[name] = tuple(
                canaries.figures(canary, pieces, [next(parts) for _ in range(size)])
                for canary, pieces, size in zip(planted, encoded, sizes, strict=True)
            )
        return found

    def prompts(self, train: Sequence[Example], held_out: Sequence[Example]) -> list[Prompt]:
        """What is answered: of held-out people, of the regression set, of those trained on most, in this order."""
        seed, options = self.options.seed, self.options
        regression = list(regression_set())
        Random(f"regression/{seed}").shuffle(regression)
        sources = {
            "held_out": by_person(held_out, options.held_out_replies, seed),
            "regression": regression[: options.regression_replies],
            "loudest": of_loudest(train, options.loudest_replies, seed),
        }
        room = self.context - options.max_new_tokens
        return [
            prompt
            for source, examples in sources.items()
            for prompt in prompts_of(examples, source, self.fmt, self.tokenizer, room, seed)
        ]

    def replies(self, prompts: Sequence[Prompt]) -> dict[str, list[str | None]]:
        """By contestant, the greedy reply to each prompt; None where the model gave no finite logits."""
        return {
            name: answer(
                self.model,
                self.tokenizer,
                self.fmt,
                prompts,
                adapter,
                self.options.max_new_tokens,
                self._tick(f"replies of {name}"),
            )
            for name, adapter in self.adapters.items()
        }

    def _encode(self, example: Example) -> list[Any]:
        return encode(example, self.fmt, self.tokenizer, self.context)

    def _scores(self, what: str, pieces: Sequence[Any]) -> dict[str, list[Scored]]:
        return {
            name: score(self.model, pieces, adapter, self._tick(f"{what}, {name}"))
            for name, adapter in self.adapters.items()
        }

    def _units(self, what: str, encodings: Encodings) -> tuple[Unit, ...]:
        scores = self._scores(what, [piece for _, piece in encodings])
        tokens: dict[str, int] = defaultdict(int)
        losses: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(scores, 0.0))
        for i, (key, piece) in enumerate(encodings):
            tokens[key] += piece.num_learnt
            for name, scored in scores.items():
                losses[key][name] += scored[i].total
        return tuple(Unit(key, tokens[key], losses[key]) for key in sorted(tokens))

    def _tick(self, what: str) -> Callable[[int, int], None]:
        def tick(done: int, total: int) -> None:
            while self.may_run is not None and not self.may_run():
                time.sleep(WAIT_S)
            if self.on_progress is not None:
                self.on_progress(what, done, total)

        return tick
