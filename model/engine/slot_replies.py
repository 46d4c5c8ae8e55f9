"""Which replies decode in slots, and what becomes of the tokens they get there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from weakref import WeakSet

from model.engine.adapters import Adapter
from model.engine.capture import CaptureError
from model.engine.graph import SlotDecode
from model.engine.request import Request
from model.engine.sampling import NOT_FINITE
from model.errors import ModelError

logger = logging.getLogger(__name__)


class SlotReplies:
    """Those under one adapter take a step together. Seeds and log-probabilities are left to the runner."""

    def __init__(self, decode: SlotDecode) -> None:
        self.decode = decode
        self._joined: dict[int, Request] = {}  # by slot: its reply's next token and place are on the device
        self._left_alone: WeakSet[Adapter] = WeakSet()  # a step under these failed
        self._off = False  # a step failed that needed none, or could not be captured

    def serves(self, request: Request) -> bool:
        """Whether its next token can come from here."""
        if self._off or request.params.seed is not None or request.logprobs:
            return False
        possible = request.adapter is None or request.adapter not in self._left_alone
        return possible and bool(request.generated) and request.num_pending == 1

    def step(self, requests: Sequence[Request]) -> list[Request]:
        """One token for each -> those that got it; a failing step leaves its replies as they were."""
        got: list[Request] = []
        for adapter in dict.fromkeys(request.adapter for request in requests):
            group = [request for request in requests if request.adapter is adapter]
            try:
                told = self._run(group, adapter)
            except Exception as error:
                self._give_up(adapter, error)
                if self._off:
                    break
                continue
            for request, token in zip(group, told, strict=True):
                self._take(request, token)
            got += group
        return got

    def forget(self, slot: int) -> None:
        """Its reply has ended."""
        self._joined.pop(slot, None)

    def _run(self, group: list[Request], adapter: Adapter | None) -> list[int]:
        slots = []
        for request in group:
            assert request.kv is not None
            assert request.kv.slot is not None
            slots.append(request.kv.slot)
            if self._joined.get(slots[-1]) is not request:
                place, token = len(request.kv.ids), request.generated[-1]
                self.decode.join(slots[-1], place, token, request.params, request.generated)
                self._joined[slots[-1]] = request
        told = self.decode.run(slots, adapter).tolist()
        return [told[slot] for slot in slots]

    def _give_up(self, adapter: Adapter | None, error: Exception) -> None:
        """An adapter that fails does so alone; without a graph, or without any adapter, nothing is to be had here."""
        if adapter is None or isinstance(error, CaptureError):
            self._off, self.decode.graphs = True, None  # and the memory of graphs is free again
            logger.warning("decoding in slots failed: going on without them, slower", exc_info=error)
        else:
            self._left_alone.add(adapter)
            logger.warning(
                "decoding in slots failed under %s: it goes on without, slower", adapter.name, exc_info=error
            )

    def _take(self, request: Request, token: int) -> None:
        assert request.kv is not None
        request.kv.advance(request.pending(1))
        try:
            if token < 0:
                raise ModelError(NOT_FINITE)
            request.accept(token)
        except Exception as error:
            request.fail(error)
