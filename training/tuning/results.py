"""What a training run says while it goes and when it ends. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Phase = Literal["loading", "training", "evaluating", "waiting"]


@dataclass(frozen=True)
class TuneProgress:
    """Where a run is. `loss` is the last step's, a token (SFT) or a pair (DPO); eta_s to the end of the plan."""

    phase: Phase
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    held_out_loss: float | None = None
    learning_rate: float = 0.0
    tokens: int = 0  # read in this run so far, prompts included
    tokens_per_s: float = 0.0
    eta_s: float | None = None
    memory_mb: float = 0.0  # resident now, or allocated on the GPU


@dataclass(frozen=True)
class TuneResult:
    """What came out. `adapter` is the folder in PEFT's format, of the step with the best held-out loss (`best_step`).

    stopped: "finished", "no-improvement", "time-budget" or "not-finite" (a loss or gradient was NaN or infinite).
    """

    adapter: Path
    steps: int
    epochs: float
    losses: list[tuple[int, float]]
    held_out_losses: list[tuple[int, float]]
    best_step: int
    seconds: float  # of training and evaluation, waiting left out
    tokens: int
    tokens_per_s: float
    peak_mb: float
    stopped: str
    dropped: dict[str, int]  # examples that could not be used, by reason
    fitted: str = ""  # what was chosen to keep within the memory budget


@dataclass(frozen=True)
class StepCost:
    """One measured pass forward and back: seconds, the process's (or GPU's) peak memory in MB, tokens of its row; and
    what was chosen to keep within a memory budget, if there is one."""

    seconds: float
    peak_mb: float
    tokens: int
    fitted: str = ""
