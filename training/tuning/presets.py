"""What a training run is told, and the sets of numbers that the literature uses. No torch here.

Sources: Hu et al. 2021, LoRA (tables 11 and 12: GPT-2 M and GPT-3); the Colab notebook published with
hivemind/gpt-j-6B-8bit; Jain et al. 2023, NEFTune; Rafailov et al. 2023, DPO; Dubey et al. 2024, Llama 3 (the weight of
the chosen reply's own loss in DPO).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from training.errors import TuneError

Method = Literal["sft", "dpo"]
Schedule = Literal["linear", "cosine", "constant"]
Checkpointing = Literal["none", "mlp", "attention", "layers"]  # what is computed again for the gradients
Target = Literal["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"]

ALL_TARGETS: tuple[Target, ...] = get_args(Target)
MAX_RANK = 512


@dataclass(frozen=True)
class TuneOptions:
    """A run's numbers; the defaults are those of `lora-gpt3`. Raises TuneError for a value out of range."""

    method: Method = "sft"
    rank: int = 8
    alpha: int = 8  # the update is scaled by alpha / rank
    targets: tuple[Target, ...] = ("q_proj", "v_proj")
    train_norms: bool = False  # also the LayerNorms' scales and shifts, as a part of the adapter
    dropout: float = 0.0  # before A
    learning_rate: float = 2e-4
    schedule: Schedule = "linear"
    warmup_steps: int = 100  # at most a tenth of the run
    weight_decay: float = 0.1  # on A and B only
    clip_norm: float = 1.0
    epochs: int = 2
    batch_size: int = 8  # examples (or pairs) a step, over all processes
    row_tokens: int = 2048  # packed into one row at most: what one pass has in memory; a longer example has its own row
    context: int = 0  # longest example in tokens; 0: as many as the model reads
    neftune: float = 0.0  # noise on the embeddings, 5 is usual
    memory_gb: float = (
        0.0  # 10^9 bytes that training may take; the next two and row_tokens are then chosen by measuring
    )
    checkpointing: Checkpointing = "layers"
    offload: bool = False  # what "layers" keeps of each layer waits in the CPU's memory
    evaluations: int = 10  # of the held-out loss in a run, besides that before the first step
    patience: int = 3  # evaluations without a better held-out loss before the run stops; 0: never
    time_budget_s: float = 0.0  # of training; the plan is cut to fit after a few measured steps; 0: no limit
    checkpoint_s: float = 120.0  # between checkpoints; 0: one after every step
    beta: float = 0.1  # DPO: how far the policy may go from the base
    chosen_weight: float = 0.2  # DPO: of the chosen reply's own loss a token
    seed: int = 1

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TuneError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(choices)}")
        if not self.targets or len(set(self.targets)) < len(self.targets) or not set(self.targets) <= set(ALL_TARGETS):
            raise TuneError(
                f"targets are {', '.join(self.targets) or 'none'}: expected some of {', '.join(ALL_TARGETS)}"
            )
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise TuneError(f"{name} is {getattr(self, name)}: expected {low} to {high}")


CHOICES: dict[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "schedule": get_args(Schedule),
    "checkpointing": get_args(Checkpointing),
}
RANGES: dict[str, tuple[float, float]] = {
    "rank": (1, MAX_RANK),
    "alpha": (1, 4096),
    "dropout": (0, 0.9),
    "learning_rate": (1e-8, 1),
    "warmup_steps": (0, 1_000_000),
    "weight_decay": (0, 10),
    "clip_norm": (1e-6, 1e6),
    "epochs": (1, 1000),
    "batch_size": (1, 4096),
    "row_tokens": (16, 65_536),
    "context": (0, 65_536),
    "neftune": (0, 100),
    "memory_gb": (0, 100_000),
    "evaluations": (1, 1000),
    "patience": (0, 1000),
    "time_budget_s": (0, 1e9),
    "checkpoint_s": (0, 1e9),
    "beta": (1e-4, 100),
    "chosen_weight": (0, 100),
    "seed": (0, 2**31 - 1),
}

PRESETS: dict[str, TuneOptions] = {
    # Table 12: rank 8 on q and v, AdamW 2e-4, linear with warm-up, decay 0.1, 2 epochs. Its batch of 128 is for data of
    # tens of thousands of examples; a log of hundreds would make ten steps of it.
    "lora-gpt3": TuneOptions(),
    # Table 11: rank 4, alpha 32, dropout 0.1, 2e-4 with 500 steps of warm-up, decay 0.01, batch 8, 5 epochs.
    "lora-gpt2": TuneOptions(
        rank=4, alpha=32, dropout=0.1, warmup_steps=500, weight_decay=0.01, batch_size=8, epochs=5
    ),
    # The notebook: rank 16 without scaling on every linear layer of a block, 1e-5, decay 0.01, one example a step.
    "notebook": TuneOptions(
        rank=16, alpha=16, targets=ALL_TARGETS, learning_rate=1e-5, weight_decay=0.01, batch_size=1, epochs=5
    ),
}


def preset(name: str) -> TuneOptions:
    """The options of that name. Raises TuneError naming those there are."""
    if name not in PRESETS:
        raise TuneError(f"preset is {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


assert set(RANGES) <= {field.name for field in fields(TuneOptions)}
