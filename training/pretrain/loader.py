"""A run's batches in order, prepared ahead by a worker process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from training.pretrain.batches import Batch, Stage, Stream
from training.pretrain.schedule import Recipe


class Batches(Dataset[Batch]):
    """Batches first..last of one stage, for a worker process that prepares them ahead."""

    def __init__(self, stream: Stream, stage: Stage, first: int, last: int, recipe: Recipe) -> None:
        self.stream, self.stage, self.first, self.last, self.recipe = stream, stage, first, last, recipe

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.stream.batch(self.first + i, self.stage, self.recipe.num_tokens, self.recipe.row)


def ignore_signals(_: int) -> None:
    """For the worker: Ctrl-C and SIGTERM reach the whole process group, and the main process ends the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batches(stream: Stream, stage: Stage, first: int, last: int, recipe: Recipe, workers: int) -> Iterator[Batch]:
    """In order, whatever the number of workers."""
    ahead: dict[str, Any] = {"prefetch_factor": 8, "worker_init_fn": ignore_signals} if workers else {}
    dataset = Batches(stream, stage, first, last, recipe)
    yield from DataLoader(dataset, batch_size=None, shuffle=False, num_workers=workers, **ahead)
