"""The running requests: who gets a slot, what one pass takes in, and what becomes of its logits.

A pass holds one token of every reply that is being written and a piece of the prompts that are being read, small enough
that the replies keep flowing. Memory for keys and values is promised before a request is let in, so none fails for it
half way.
"""

from __future__ import annotations

import logging
from collections import Counter

import torch

from model.engine.cache import PrefixCache
from model.engine.graph import SlotDecode
from model.engine.request import Request
from model.engine.runner import Runner, Segment
from model.engine.slot_replies import SlotReplies
from model.engine.slots import SlotCache, Slots
from model.engine.waiting import WaitingLine

logger = logging.getLogger(__name__)

# Prompt tokens of one pass: alone (between two passes a reply can be cancelled, and activations stay small), and beside
# replies in progress, which wait for the whole pass.
PREFILL_TOKENS = 512
PREFILL_BESIDE = 64
OWNERS_SLOTS = 4  # an owner runs at most a quarter of the slots at a time


class Batch:
    """Used by the engine's thread alone. The cache always has room for one whole context.

    in_slots: conversations live in slots of one context each and decode there, see `engine.graph`; as many as
    `cache_bytes` holds run at once, up to `max_batch`. Raises ModelError if the device has no room for them.
    """

    def __init__(self, runner: Runner, cache_bytes: int, max_batch: int, *, in_slots: bool = False) -> None:
        self.runner, self.max_batch = runner, max_batch
        layout = runner.layout
        self.cache: PrefixCache
        self.slot_replies: SlotReplies | None = None
        if not in_slots:
            self.cache = PrefixCache(layout, max(cache_bytes, layout.bytes_per_context))
        else:
            slots = Slots(layout, min(max_batch, max(1, cache_bytes // layout.bytes_per_context)))
            self.max_batch, self.cache = slots.count, SlotCache(slots)
            self.slot_replies = SlotReplies(SlotDecode(runner, slots))
            logger.info(
                "%d conversations are answered side by side: each takes %d of %d MB (TERTULIA_CACHE_MB) on %s",
                *(slots.count, layout.bytes_per_context // 2**20, cache_bytes // 2**20, layout.device),
            )
        self.running: list[Request] = []

    # --- room -----------------------------------------------------------------------------------------------------

    def promised_bytes(self, request: Request) -> int:
        return self.cache.promised_bytes(len(request.ids) + request.max_new_tokens)

    def admit(self, waiting: WaitingLine) -> None:
        """Fill the free slots from the line."""
        waiting.end_cancelled()
        owners = Counter(request.owner for request in self.running if request.owner)
        promised = sum(map(self.promised_bytes, self.running))

        def crowds(request: Request) -> bool:
            return bool(request.owner) and owners[request.owner] >= max(1, self.max_batch // OWNERS_SLOTS)

        def fits(request: Request) -> bool:
            return promised + self.promised_bytes(request) <= self.cache.budget_bytes

        while len(self.running) < self.max_batch and (request := waiting.take(crowds, fits)):
            try:
                request.kv = self.cache.take(request.ids, request.adapter)
            except Exception as error:
                request.fail(error)
                continue
            request.reused_tokens = len(request.kv.ids)
            owners[request.owner] += bool(request.owner)
            promised += self.promised_bytes(request)
            self.running.append(request)
        self.cache.make_room(promised)

    @property
    def cache_bytes(self) -> int:
        """Of a pool of slots all of it: it is taken whether conversations fill it or not."""
        if self.slot_replies is not None:
            return self.slot_replies.decode.slots.pool.nbytes
        return self.cache.size_bytes + sum(request.kv.size_bytes for request in self.running if request.kv)

    # --- one pass -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Cancelled replies end, the others move on by one pass."""
        for request in self.running:
            if request.cancel.is_set():
                request.finish("cancelled")
        self._retire()
        slots = self.slot_replies
        served = slots.step([request for request in self.running if slots.serves(request)]) if slots else []
        parts = self._parts([request for request in self.running if request not in served])
        if not parts:
            self._retire()
            return
        try:
            logits = self.runner.forward([segment for _, segment in parts])
        except Exception as error:
            self._each_alone(parts, error)
            return
        drawing = [request for request, segment in parts if segment.wants_logits]
        for request, row in zip(drawing, logits, strict=True):
            self._draw(request, row)
        self._retire()

    def _parts(self, requests: list[Request]) -> list[tuple[Request, Segment]]:
        """Every reply's next token, then prompts in the order they came, as far as the pass may go."""
        room = PREFILL_BESIDE if any(request.generated for request in self.running) else PREFILL_TOKENS
        parts = []
        for request in requests:
            assert request.kv is not None
            ids = request.pending(1 if request.generated else room)
            if ids:
                room -= 0 if request.generated else len(ids)
                parts.append((request, Segment(request.kv, ids, wants_logits=len(ids) == request.num_pending)))
        return parts

    def _draw(self, request: Request, logits: torch.Tensor) -> None:
        try:
            request.take(logits)
        except Exception as error:
            request.fail(error)

    def _each_alone(self, parts: list[tuple[Request, Segment]], error: Exception) -> None:
        """A pass failed: whoever fails alone too is at fault and gets the error, the others lose nothing."""
        logger.warning("a pass over %d replies failed: %s", len(parts), type(error).__name__)
        for request, segment in parts:
            try:
                logits = self.runner.forward([segment])
            except Exception as own:
                request.fail(own)
            else:
                if segment.wants_logits:
                    self._draw(request, logits[0])
        self._retire()

    def _retire(self) -> None:
        """Finished replies leave their slots; their keys and values stay for the next turn."""
        for request in self.running:
            if request.finished and request.kv is not None:
                if self.slot_replies is not None and request.kv.slot is not None:
                    self.slot_replies.forget(request.kv.slot)
                self.cache.give(request.kv)
                request.kv = None
        self.running = [request for request in self.running if not request.finished]
        self.cache.make_room(sum(map(self.promised_bytes, self.running)))

    # --- the end --------------------------------------------------------------------------------------------------

    def cancel_all(self) -> None:
        for request in self.running:
            request.finish("cancelled")
        self._retire()

    def fail_all(self, error: BaseException) -> None:
        for request in self.running:
            request.fail(error)
        self._retire()
