"""A training run in a process of its own, killed with SIGKILL at a moment that a test names."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import training.judging.contest
import training.tuning.trainer
from bot.activity import Activity
from training import runs
from training.retrain import retrain
from training.retrain_options import RetrainOptions, Watch
from training.tuning.results import TuneProgress

# What a run imports is imported once; each process is a copy of one that has computed nothing yet.
PRELOADED = [training.judging.contest, training.tuning.trainer]

# A small random model never comes to an end by itself.
SHORT = functools.partial(training.judging.contest.JudgeOptions, regression_replies=16, max_new_tokens=12)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def run_until(options: RetrainOptions, moment: str) -> int | None:
    """Train until `moment` -> the process's exit code, -9 if it was killed.

    Moments: a phase's name (all its work is done, and not yet said to be), "step 3" of the tuning, "added" to the
    registry but not in service, or "" for never.
    """
    process = begin(options, moment)
    process.join(300)
    return process.exitcode


def begin(options: RetrainOptions, moment: str = "") -> BaseProcess:
    """Train in a process of its own, in idle time."""
    process = _context.Process(target=_train, args=(options, moment))
    process.start()
    return process


def _train(options: RetrainOptions, moment: str) -> None:
    import torch

    torch.set_num_threads(1)
    training.judging.contest.JudgeOptions = SHORT  # type: ignore[misc,assignment]
    finish = runs.Run.finish

    def finish_unless_killed(run: runs.Run, phase: str, seconds: float) -> None:
        _die_at(moment, phase)
        finish(run, phase, seconds)

    def look(progress: TuneProgress) -> None:
        _die_at(moment, f"step {progress.step}")

    runs.Run.finish = finish_unless_killed  # type: ignore[method-assign]
    if moment == "added":
        _die_after_adding()
    idle = Activity(options.state_dir)
    retrain(options, Watch(tuning=look, may_run=lambda: idle.is_quiet(0.0)))


def _die_after_adding() -> None:
    from training.registry import Registry

    add = Registry.add

    def add_and_die(*args: Any, **kwargs: Any) -> str:
        add(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    Registry.add = add_and_die  # type: ignore[method-assign]


def _die_at(moment: str, now: str) -> None:
    if moment == now:
        os.kill(os.getpid(), signal.SIGKILL)


def style_file(path: Path, people: int, turns: int) -> Path:
    """Dialogues of so many people, each of whose replies ends in the same words."""
    import json

    names = ("el mar", "la luna", "un faro", "mi barco", "la arena", "el puerto", "una isla", "el viento")
    lines = []
    for person in range(people):
        said = []
        for turn in range(turns):
            thing = f"{names[(person + turn) % len(names)]} número {person * turns + turn}"
            said.append({"role": "user", "content": f"Cuéntame algo de {thing}, por favor."})
            said.append({"role": "assistant", "content": f"De {thing} se cuentan muchas cosas. ¡Voto a Neptuno!"})
        lines.append(json.dumps({"user": f"persona {person}", "messages": said}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
