"""The loop of a training run: steps, evaluations, the plan and its end, checkpoints between.

Always: order, chance and learning rate follow from the step's number alone and all else is in the checkpoint, so that a
resumed run ends with the bits of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from training.errors import TuneError
from training.tuning.dataset import Dataset, batch, size, steps_per_epoch
from training.tuning.learner import Learner, learning_rate
from training.tuning.memory import memory_mb, peak_mb
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes
from training.tuning.results import Phase, TuneProgress
from training.tuning.resume import Checkpoint, Checkpoints, State

OnProgress = Callable[[TuneProgress], None]
MayRun = Callable[[], bool]

IDLE_POLL_S = 0.5
MEASURED_STEPS = 4  # after the first, before the plan is cut to the time budget


class Run:
    """The loop, and the state that its checkpoints hold."""

    def __init__(
        self,
        learner: Learner,
        options: TuneOptions,
        processes: Processes,
        checkpoints: Checkpoints,
        train: Dataset,
        held_out: Dataset,
        report: OnProgress,
        may_run: MayRun,
    ) -> None:
        self.learner, self.options, self.processes, self.checkpoints = learner, options, processes, checkpoints
        self.train, self.held_out, self.report, self.may_run = train, held_out, report, may_run
        self.state = State()
        self.best = learner.adapter()
        self.step_s: list[float] = []  # of the steps taken by this process
        self.evaluation_s = 0.0
        self.saved_at = time.monotonic()

    def begin(self, newest: Checkpoint | None) -> None:
        """From the checkpoint, or with an evaluation of what there is before the first step."""
        if newest is not None:
            self.state, self.best = newest.state, newest.tensors["best"]
            self.learner.restore(newest.tensors["adapter"], newest.tensors["optimizer"])
            return
        self.state.epoch_steps = steps_per_epoch(len(self.train.units), self.options.batch_size)
        self.state.total_steps = self.options.epochs * self.state.epoch_steps
        self.state.dropped = dict(self.train.dropped)
        if self.held_out.units:
            self._evaluate()

    def go(self) -> None:
        """Step by step to the end of the plan, or to what ends it before."""
        while not self.state.stopped:
            self._wait_until_idle()
            self._step()
            self._decide()
            due = time.monotonic() - self.saved_at >= self.options.checkpoint_s
            if self.processes.is_main and (due or self.state.stopped):
                self._save()

    def _step(self) -> None:
        state, options = self.state, self.options
        began = time.monotonic()
        indices = batch(len(self.train.units), options.batch_size, options.seed, state.step)
        units = [self.train.units[i] for i in indices]
        loss = self.learner.step(units, state.step, state.total_steps)
        if not math.isfinite(loss):
            if state.step == 0:
                raise TuneError("the loss of the first step is not finite: check the base, or give --dtype float32")
            state.stopped = "not-finite"
            return
        state.step += 1
        state.losses.append((state.step, loss))
        state.tokens += sum(map(size, units))
        self.step_s.append(self._passed(began))
        self._tell("training")

    def _decide(self) -> None:
        """Evaluate where it is due, cut the plan to the time budget, and say whether this was the end."""
        state, options = self.state, self.options
        if not state.stopped and options.time_budget_s:
            self._plan()
        (seconds, total) = self.processes.from_main(state.seconds, state.total_steps)
        state.total_steps = int(total)
        if not state.stopped and options.time_budget_s and seconds >= options.time_budget_s:
            state.stopped = "time-budget"
        if not state.stopped and state.step >= state.total_steps:
            state.stopped = "time-budget" if state.planned else "finished"
        if self.held_out.units and (self._due() or state.stopped) and state.held_out_losses[-1][0] != state.step:
            self._evaluate()
            if not state.stopped and 0 < options.patience <= state.fruitless:
                state.stopped = "no-improvement"
        if not self.held_out.units:
            state.best_step = state.step

    def _due(self) -> bool:
        """Whether one of the run's evenly spread evaluations falls on this step."""
        state, n = self.state, self.options.evaluations
        return state.step * n // state.total_steps > (state.step - 1) * n // state.total_steps

    def _plan(self) -> None:
        """After a few steps the run is cut to what fits the time budget, so that the learning rate still ends at 0."""
        state = self.state
        if state.planned or len(self.step_s) != 1 + MEASURED_STEPS:
            return
        step_s = sum(self.step_s[1:]) / MEASURED_STEPS
        left_s = self.options.time_budget_s - state.seconds - self.options.evaluations * self.evaluation_s
        fits = max(1, int(left_s / step_s))
        if state.step + fits < state.total_steps:
            state.total_steps, state.planned = state.step + fits, True

    def _evaluate(self) -> None:
        state = self.state
        began = time.monotonic()
        self._tell("evaluating")
        best = min((loss for _, loss in state.held_out_losses), default=math.inf)
        loss = self.learner.evaluate(self.held_out.units)
        if not math.isfinite(loss):
            if state.step == 0:
                raise TuneError(
                    "the held-out loss is not finite before the first step: the base gives no numbers on these data; "
                    "check it with `tertulia verify`"
                )
            state.stopped = "not-finite"
            return
        state.held_out_losses.append((state.step, loss))
        state.fruitless += 1
        if loss < best:
            state.best_step, state.fruitless, self.best = state.step, 0, self.learner.adapter()
        self.evaluation_s = time.monotonic() - began
        self._passed(began)
        self._tell("evaluating")

    def _passed(self, began: float) -> float:
        seconds = time.monotonic() - began
        self.state.seconds += seconds
        self.state.peak_mb = max(self.state.peak_mb, peak_mb(self.processes.device))
        return seconds

    def _save(self) -> None:
        adapter = self.learner.adapter()
        if not self.held_out.units:
            self.best = adapter
        tensors = {"adapter": adapter, "best": self.best, "optimizer": self.learner.optimizer_state()}
        self.checkpoints.write(Checkpoint(self.state, tensors))
        self.saved_at = time.monotonic()

    def _wait_until_idle(self) -> None:
        while self.processes.is_main and not self.may_run():
            self._tell("waiting")
            time.sleep(IDLE_POLL_S)

    def _tell(self, phase: Phase) -> None:
        state = self.state
        step_s = state.seconds / state.step if state.step else None
        self.report(
            TuneProgress(
                phase,
                state.step,
                state.total_steps,
                epoch=state.step / state.epoch_steps,
                loss=state.losses[-1][1] if state.losses else None,
                held_out_loss=state.held_out_losses[-1][1] if state.held_out_losses else None,
                learning_rate=learning_rate(max(0, state.step - 1), state.total_steps, self.options),
                tokens=state.tokens,
                tokens_per_s=state.tokens / state.seconds if state.seconds else 0.0,
                eta_s=step_s and step_s * (state.total_steps - state.step),
                memory_mb=memory_mb(self.processes.device),
            )
        )
