"""The contest: candidate, adapter in service and bare base measured on the same things, on one resident base."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.engine.adapters import read_adapter
from model.gptj import GPTJ8bitForCausalLM
from model.prompt_formats import PromptFormat, get_format
from model.tokenizer import Tokenizer
from training.judging.judgement import BASE, CANDIDATE, IN_SERVICE, JudgeError, Judgement, Pair
from training.judging.jury import JudgeOptions, Jury, MayRun, Progress
from training.judging.regression import abuse_set, regression_set
from training.judging.replies import count

if TYPE_CHECKING:
    from training.curation.snapshot import Snapshot

__all__ = ["Contestant", "JudgeOptions", "MayRun", "Progress", "contestants", "judge", "judge_loaded"]


@dataclass(frozen=True)
class Contestant:
    """Someone in the contest; no adapter: the bare base."""

    name: str
    adapter: Path | None = None


def contestants(candidate: Path, in_service: Path | None) -> tuple[Contestant, ...]:
    """The three (or two) that a run compares, under the names that `gate.decide` looks for."""
    served = () if in_service is None else (Contestant(IN_SERVICE, in_service),)
    return (Contestant(BASE), *served, Contestant(CANDIDATE, candidate))


def judge(
    model_folder: Path,
    contestants: Sequence[Contestant],
    snapshot: Snapshot,
    *,
    fmt: PromptFormat | None = None,
    device: str = "auto",
    dtype: str = "float32",
    options: JudgeOptions | None = None,
    on_progress: Progress | None = None,
    may_run: MayRun | None = None,
) -> Judgement:
    """Load the base once and measure all contestants on it. `may_run` is asked between passes, False waits.

    `fmt` None: the model's own. Raises JudgeError (no contestant, or a name twice), ModelError (a base or an adapter
    that is not what it should be).
    """
    model: Any = GPTJ8bitForCausalLM.from_pretrained(model_folder, dtype=dtype, device_map=device)
    return judge_loaded(
        model,
        Tokenizer.from_pretrained(model_folder),
        fmt or get_format(model.config.prompt_format),
        contestants,
        snapshot,
        options=options,
        on_progress=on_progress,
        may_run=may_run,
    )


def judge_loaded(
    model: Any,
    tokenizer: Tokenizer,
    fmt: PromptFormat,
    contestants: Sequence[Contestant],
    snapshot: Snapshot,
    *,
    options: JudgeOptions | None = None,
    on_progress: Progress | None = None,
    may_run: MayRun | None = None,
) -> Judgement:
    """`judge` on a base that is loaded already; it is left as it was."""
    started = time.monotonic()
    names = [contestant.name for contestant in contestants]
    if not names or len(set(names)) < len(names):
        raise JudgeError(f"the contestants are {', '.join(names) or 'none'}: expected one or more, each name once")
    adapters = {one.name: read_adapter(model, one.adapter, one.name) if one.adapter else None for one in contestants}
    jury = Jury(model, tokenizer, fmt, adapters, options or JudgeOptions(), on_progress, may_run)
    prompts = jury.prompts(snapshot.train, snapshot.held_out)
    said = jury.replies(prompts)
    return Judgement(
        contestants={one.name: str(one.adapter) if one.adapter else None for one in contestants},
        held_out=jury.held_out(snapshot.held_out),
        regression=jury.fixed("regression set", regression_set()),
        abuse=jury.fixed("abusive replies", abuse_set()[0]),
        decency=jury.fixed("decent replies", abuse_set()[1]),
        replies={name: count(prompts, each) for name, each in said.items()},
        canaries=jury.canaries(snapshot.train),
        pairs=tuple(
            Pair(prompt.text, {name: said[name][i] or "" for name in names}, prompt.source)
            for i, prompt in enumerate(prompts)
        ),
        seed=jury.options.seed,
        seconds=round(time.monotonic() - started, 3),
    )
