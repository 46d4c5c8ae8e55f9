"""Steps as CUDA graphs: each kind of step is captured the first time it is wanted and replayed from then on.

Always: one capture at a time in the process, on the device of the tensors that the step changes; their values stay as
they were. Source: torch.cuda.graph, and "CUDA semantics" in torch's notes. Not run for want of a device: the tests
stand in for `torch.cuda`.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.engine.adapters import Adapter

MAX_GRAPHS = 64
CAPTURING = threading.Lock()  # torch takes one capture at a time; another engine may want one


class Kind(NamedTuple):
    """What the shapes and addresses of a step depend on."""

    num_slots: int  # how many slots are computed, from the first on
    span: int  # how many places attention looks at
    draws: bool  # whether tokens are drawn; otherwise each is the likeliest
    adapter: Adapter | None  # of all slots


Key = tuple[int, int, bool, "weakref.ref[Adapter] | None"]


class CaptureError(RuntimeError):
    """The step runs, but not as a CUDA graph: nor will that of another kind."""


class Graphs:
    """The graphs of steps that change the tensors `changed`; those used longest ago go first.

    An adapter is held weakly: its graphs go at the next capture after nobody else holds it.
    """

    def __init__(self, changed: Sequence[Tensor]) -> None:
        self.changed, self.device = changed, changed[0].device
        with torch.cuda.device(self.device):
            self._stream = torch.cuda.Stream()
            self._memory = torch.cuda.graph_pool_handle()  # shared: what a replay leaves in it, no other replay reads
        self._graphs: OrderedDict[Key, Any] = OrderedDict()

    def replay(self, kind: Kind, step: Callable[[Kind], None]) -> None:
        """Does what step(kind) does. Raises what it raises when it is warmed up, and CaptureError."""
        key = (*kind[:3], None if kind.adapter is None else weakref.ref(kind.adapter))
        with torch.cuda.device(self.device):
            if key not in self._graphs:
                with CAPTURING:
                    self._warm_up(kind, step)
                    self._graphs[key] = self._capture(kind, step)
                self._drop()
            self._graphs.move_to_end(key)
            self._graphs[key].replay()

    def _warm_up(self, kind: Kind, step: Callable[[Kind], None]) -> None:
        """What is set up, compiled or tuned at a first run must not be captured. What the step changed is put back;
        keys and values that it wrote are written again by the replay.
        """
        before = [tensor.clone() for tensor in self.changed]
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._stream):
                for _ in range(1 if self._graphs else 3):
                    try:
                        step(kind)
                    finally:
                        for tensor, values in zip(self.changed, before, strict=True):
                            tensor.copy_(values)
        finally:  # also after an error: `before` is freed then, while the other stream may still read it
            torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self, kind: Kind, step: Callable[[Kind], None]) -> Any:
        try:
            graph = torch.cuda.CUDAGraph()
            mode = "thread_local"  # other threads may take memory meanwhile
            capturing = torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode=mode)
            back = torch.cuda.stream(torch.cuda.current_stream())  # torch leaves a failed one on its own stream
            with back, capturing:
                step(kind)
        except Exception as error:
            raise CaptureError(f"no CUDA graph of a step: {error}") from error
        return graph

    def _drop(self) -> None:
        """After a capture, never before: the shared memory is given up with the last graph in it."""
        for key in [key for key in self._graphs if key[3] is not None and key[3]() is None]:
            del self._graphs[key]
        while len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
