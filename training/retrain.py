"""The whole training run: collect, validate, tune, judge, promote, report; or one of these alone.

Always: a run may be killed at any moment, and the same command goes on with the phase that was cut; one process at a
time trains for a registry; what people take back is learnt from no longer, also while a run is under way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training import phases, runs
from training.curation import Snapshot
from training.dialogues import DialogueLog
from training.errors import RunError
from training.gpu_memory import is_out_of_memory, leave_room, on_gpu
from training.registry.forgotten import lost_rows
from training.retrain_options import RetrainOptions, Watch, difference
from training.run_texts import WITHDRAWN, forget_rows, give_up, has_lost
from training.runs import Run

LOOK_EVERY_S = 60.0  # in the middle of a phase, whether somebody has taken something back


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "promoted", "shared", "forced" or "refused"; why; where it is told."""

    run_id: str
    outcome: str
    reasons: tuple[str, ...]
    page: Path


@dataclass(frozen=True)
class Preview:
    """What a run would learn from, and what it would take."""

    counts: dict[str, int]
    validation: dict[str, Any]


def retrain(options: RetrainOptions, watch: Watch | None = None, *, new: bool = False) -> Outcome:
    """Learn, compare, and put into service what is better. Goes on with a run that was cut, unless a `new` one is
    wanted. Raises TrainingError or ModelError."""
    watch = watch or Watch()
    with options.registry().lock():
        forget(options)
        run = take_up(options, watch, new=new)
        while (phase := run.next_phase) is not None:
            do(phase, run, options, watch)
        watch.say(f"{run.id}: {run.outcome}")
    return Outcome(run.id, run.outcome or "", run.reasons, run.folder / runs.PAGE)


def step(phase: str, run_id: str | None, options: RetrainOptions, watch: Watch | None = None) -> Run | None:
    """One phase alone, of that run or the newest; `collect` begins one. Raises RunError if an earlier one is missing.

    `tune` may run in several processes of `accelerate launch`; the first one writes, the others return None.
    """
    watch = watch or Watch()
    if phase == "tune" and not phases.is_main_process(options):
        phases.tune(runs.find(options.runs, run_id), options, Watch())
        return None
    with options.registry().lock():
        forget(options)
        run = take_up(options, watch) if phase == runs.PHASES[0] else _ready(phase, run_id, options)
        do(phase, run, options, watch)
    return run


def preview(options: RetrainOptions) -> Preview:
    """What a run would do; nothing is written."""
    curated = phases.gather(options)
    held = (curated.train, curated.held_out, curated.preferences)
    snapshot = Snapshot(options.runs, *held, data_hash="", row_ids=(), counts=curated.counts, facts={})
    return Preview(dict(curated.counts), phases.measure(snapshot, options))


def take_up(options: RetrainOptions, watch: Watch, *, new: bool = False) -> Run:
    """The unfinished run of these options, or a new one. Raises RunError if one of other options is unfinished."""
    wanted = options.of_run()
    for run in runs.unfinished(options.runs):
        if new:
            give_up(run, "given up for a new run")
        elif differs := difference(_settled(run), {name: wanted[name] for name in _settled(run)}):
            raise RunError(
                f"the run {run.id} is unfinished and has other options ({differs}): go on with it by the command that "
                "began it, or give it up with --new"
            )
        else:
            watch.say(f"going on with the run {run.id}")
            run.set_options(wanted)
            return run
    return Run.begin(options.runs, wanted)


def do(phase: str, run: Run, options: RetrainOptions, watch: Watch) -> None:
    """One phase of a run; when it stands as done, all that it wrote is on disk."""
    watch = replace(watch, may_run=_Permission(run, options, watch))
    watch.say(f"{run.id}: {phase}")
    watch.wait()
    began = time.monotonic()
    try:
        if phase in ("validate", "tune", "judge"):  # which load the model
            leave_room(options.device)
        phases.PHASES[phase](run, options, watch)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        smaller = "with a smaller --row-tokens"
        if on_gpu(options.device):
            smaller = "with a smaller --row-tokens, with a budget (--memory-gb) or with TERTULIA_DEVICE=cpu"
        raise RunError(
            f"run {run.id}: too little memory for {phase} ({str(error).splitlines()[0]}); stop what else uses it, or "
            f"begin a --new run {smaller}"
        ) from None
    run.finish(phase, time.monotonic() - began)


def forget(options: RetrainOptions) -> None:
    """Erase from the runs what people have taken back, if the log is read, and what a kill left of an end."""
    if not options.use_log:
        forget_rows(options.runs, lambda rows: set(), is_trainer=True)
    elif options.runs.is_dir():
        with DialogueLog(options.log_url) as log:
            forget_rows(options.runs, lambda rows: lost_rows(log, rows), is_trainer=True)


class _Permission:
    """Whether a run may go on now; raises RunError once its data may no longer be used."""

    def __init__(self, run: Run, options: RetrainOptions, watch: Watch) -> None:
        self._run, self._options, self._watch = run, options, watch
        self._looked_at = float("-inf")

    def __call__(self) -> bool:
        if self._options.use_log and time.monotonic() - self._looked_at > LOOK_EVERY_S:
            with DialogueLog(self._options.log_url) as log:
                if self._run.is_done("collect") and has_lost(self._run, lambda rows: lost_rows(log, rows)):
                    give_up(self._run, WITHDRAWN)
                    raise RunError(f"the run {self._run.id} is given up: {WITHDRAWN}; train again, without it")
            self._looked_at = time.monotonic()
        return self._watch.may_run is None or self._watch.may_run()


def _settled(run: Run) -> dict[str, Any]:
    """The options that can no longer be changed: how it is tuned can, as long as that has not begun."""
    begun = run.next_phase not in ("collect", "validate") and (run.folder / runs.CHECKPOINTS).exists()
    return {name: value for name, value in run.options.items() if name != "tune" or begun}


def _ready(phase: str, run_id: str | None, options: RetrainOptions) -> Run:
    """The run, if it is for this model and what comes before `phase` is done."""
    run, wanted = runs.find(options.runs, run_id), options.of_run()
    if run.outcome == runs.GIVEN_UP:
        raise RunError(f"the run {run.id} was given up ({'; '.join(run.reasons)}): begin with `tertulia train collect`")
    if run.ended_at is not None and phase in ("validate", "tune", "judge"):
        raise RunError(f"the run {run.id} has ended, and its data are erased: begin with `tertulia train collect`")
    if run.options["base"] != wanted["base"]:
        raise RunError(f"the run {run.id} is for the model {run.options['model']}: give it with --model")
    missing = [one for one in runs.PHASES[: runs.PHASES.index(phase)] if not run.is_done(one) and one != "validate"]
    if missing:
        raise RunError(f"the run {run.id} is not ready for {phase}: `tertulia train {missing[0]}` comes first")
    if phase == "tune" and not (run.folder / runs.CHECKPOINTS).exists():
        run.set_options({**run.options, "tune": wanted["tune"]})
    return run
