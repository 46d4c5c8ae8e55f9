"""Where a pretraining run is, and its picture: loss and probes against steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.pretrain.batches import COPY

SHOWN = ("intent_held_out", "intent_trained", "copy_next", "copy_later", "capitals", "sums")


@dataclass
class Progress:
    """Where a run is; saved with every checkpoint."""

    step: int = 0
    stage: str = COPY.name
    tokens: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    probes: list[dict[str, float]] = field(default_factory=list)
    data: list[dict[str, Any]] = field(
        default_factory=list
    )  # [{"step": from which, "files": {name: sha256}, "recipe"}]


def draw(progress: Progress, path: Path) -> None:
    """Loss and probes against steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 7), sharex=True)
    if progress.losses:
        above.plot(*zip(*progress.losses, strict=True))
    above.set_ylabel("loss, nats a token")
    for name in SHOWN:
        below.plot([p["step"] for p in progress.probes], [p[name] for p in progress.probes], label=name)
    below.set_xlabel("step")
    below.set_ylabel("share right")
    below.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
