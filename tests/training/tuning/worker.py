"""Training in a process of its own: to be killed, or to be one of several that `accelerate launch` starts.

`python -m tests.training.tuning.worker MODEL FOLDER OPTIONS_AS_JSON` prints its losses as JSON at the end.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.training.tuning.small import QUICK, snapshot
from training.tuning.results import TuneProgress
from training.tuning.trainer import tune


def train_and_tell(
    connection: Connection, model: Path, folder: Path, changes: dict[str, Any], num_threads: int
) -> None:
    """Sends 0 before it trains, then the number of each step that was taken."""
    torch.set_num_threads(num_threads)

    def tell(progress: TuneProgress) -> None:
        if progress.phase in ("loading", "training"):
            connection.send(progress.step)

    tune(model, snapshot(), replace(QUICK, **changes), folder, device="cpu", dtype="float32", on_progress=tell)


def main() -> None:
    model, folder, changes = sys.argv[1:]
    options = replace(QUICK, **json.loads(changes))
    result = tune(Path(model), snapshot(), options, Path(folder), device="cpu", dtype="float32")
    print(json.dumps({"losses": result.losses, "held_out": result.held_out_losses}), flush=True)


if __name__ == "__main__":
    main()
