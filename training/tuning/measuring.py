"""What training costs on this machine, before it begins: one measured pass, and the time that follows from it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from model.errors import ModelError
from training.errors import TuneError
from training.tuning.dataset import Encoded, context_of, size
from training.tuning.learner import Learner, load_base
from training.tuning.memory import peak_mb
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes
from training.tuning.results import StepCost


def measure_step(
    model_folder: Path,
    options: TuneOptions,
    *,
    device: str = "auto",
    dtype: str = "bfloat16",
    tokens: int | None = None,
) -> StepCost:
    """What one pass forward and back over a row of `tokens` (default: a full row) costs here, all of them learnt.

    Raises TuneError.
    """
    try:
        processes = Processes(device)
        base = load_base(model_folder, processes.device)
        learner = Learner(base, options, processes, dtype)
    except ModelError as error:
        raise TuneError(str(error)) from None
    tokens = tokens or options.row_tokens
    longest = min(context_of(options, base.config), tokens)
    count = max(2 if options.method == "dpo" else 1, tokens // longest)
    unit = random_unit(tokens // count, count, base.config.num_tokens or base.config.vocab_size)
    learner.step([unit], 0, 2)  # the first one also reads the weights and makes the optimizer's state
    began = time.monotonic()
    learner.step([unit], 1, 2)
    return StepCost(time.monotonic() - began, peak_mb(processes.device), size(unit))


def random_unit(length: int, count: int, num_tokens: int) -> tuple[Encoded, ...]:
    """`count` examples of `length` random ids, to be measured with."""
    random = Random(1)
    return tuple(
        Encoded([random.randrange(num_tokens) for _ in range(length)], [False] + [True] * (length - 1))
        for _ in range(count)
    )


def forecast(num_tokens: int, cost: StepCost, options: TuneOptions) -> float:
    """Seconds that training on `num_tokens` (of one epoch) takes, at the measured cost and without evaluations."""
    return num_tokens * options.epochs * cost.seconds / cost.tokens
