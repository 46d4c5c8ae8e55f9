"""What training costs on this machine, before it begins: one measured pass, and the time that follows from it."""

from __future__ import annotations

import time
from pathlib import Path

from model.errors import ModelError
from training.errors import TuneError
from training.tuning.dataset import context_of, size
from training.tuning.fitting import fit
from training.tuning.learner import Learner, load_base
from training.tuning.memory import forget_peak, peak_mb
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes
from training.tuning.random_rows import full_row
from training.tuning.results import StepCost


def measure_step(
    model_folder: Path,
    options: TuneOptions,
    *,
    device: str = "auto",
    dtype: str = "bfloat16",
    tokens: int | None = None,
    longest: int = 0,
) -> StepCost:
    """What one pass forward and back over a row of `tokens` (default: a full row) costs here, all of them learnt.

    With a memory budget in the options it is that of the way which is chosen for it, where no unit (an example or a
    pair) has more than `longest` tokens (0: the context). Raises TuneError.
    """
    try:
        processes = Processes(device)
        base = load_base(model_folder, processes.device)
        learner = Learner(base, options, processes, dtype)
    except ModelError as error:
        raise TuneError(str(error)) from None
    tokens = tokens or options.row_tokens
    said = ""
    if options.memory_gb:
        longest = min(longest or context_of(options, base.config), tokens)
        fitted = fit(learner, longest, options.batch_size * longest)
        said, tokens = fitted.said, fitted.options.row_tokens
    units = full_row(tokens, learner.options, base.config)
    learner.step(units, 0, 2)  # the first one also reads the weights and makes the optimizer's state
    forget_peak(processes.device)
    began = time.monotonic()
    learner.step(units, 1, 2)
    seconds = time.monotonic() - began
    return StepCost(seconds, peak_mb(processes.device), sum(map(size, units)), said)


def forecast(num_tokens: int, cost: StepCost, options: TuneOptions) -> float:
    """Seconds that training on `num_tokens` (of one epoch) takes, at the measured cost and without evaluations."""
    return num_tokens * options.epochs * cost.seconds / cost.tokens
