"""One training in one process or in several (`accelerate launch`): who I am, and what is added up over all.

Only the adapter's gradients and a few numbers travel. There is no DistributedDataParallel: it would broadcast the
base's buffers and divide by processes instead of by tokens. All processes hold the same adapter, since they begin with
the same seed and a sum over processes has the same bits in each. On several machines each needs the base and the data,
the main one alone the run's folder. On CPUs too it is `accelerate launch --multi_gpu`, which is torchrun; with `--cpu`
accelerate starts a single process where there is no mpirun.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from training.errors import TuneError

# A process waits in a sum while the main one waits for idle time or writes a checkpoint.
_PATIENCE = timedelta(days=30)

T = TypeVar("T")


class Processes:
    """This process's number, how many there are, and its device."""

    def __init__(self, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise TuneError(f"device is {device!r}: expected auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise TuneError("device is 'cuda': torch finds no GPU here; choose auto or cpu")
        on_cpu = device == "cpu" or not torch.cuda.is_available()
        self.index, self.count = 0, 1
        self.device = torch.device("cpu" if on_cpu else "cuda")
        state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        if state.num_processes > 1:
            self.index, self.count, self.device = state.process_index, state.num_processes, state.device

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum over all processes; one that had nothing to do counts as 0."""
        if self.count == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def sum(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return float(tensor)

    def from_main(self, *values: float) -> list[float]:
        """The main process's numbers, in each process."""
        if self.count == 1:
            return list(values)
        tensor: Tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(tensor, src=0)
        return [float(value) for value in tensor]

    def object_from_main(self, value: T) -> T:
        """The main process's object, in each process: only the main one need see the run's folder."""
        if self.count == 1:
            return value
        objects = [value]
        distributed.broadcast_object_list(objects, src=0, device=self.device)
        return objects[0]
