"""Keys and values at addresses that never move: one slot of a fixed pool for each conversation.

What a GPU wants: a CUDA graph replays addresses, and there a buffer takes its whole length at once, so the pool takes
all memory in the beginning and a conversation's share is known. A CPU, whose pages come when they are touched, is
better served by buffers of their own (`engine.cache`).
"""

from __future__ import annotations

import torch

from model.engine.cache import KeyValues, Layout, PrefixCache
from model.errors import ModelError


class Slots:
    """pool (n_layer, 2, count, H, context + 1, D): the place behind a slot's context is written to and never read.

    Raises ModelError if the device has no room for it.
    """

    @torch.inference_mode(False)  # what is made in inference mode could not be changed outside it
    def __init__(self, layout: Layout, count: int) -> None:
        self.layout, self.count, self.nowhere = layout, count, layout.context
        shape = (layout.n_layer, 2, count, layout.n_head, layout.context + 1, layout.head_dim)
        try:
            self.pool = torch.zeros(shape, dtype=layout.dtype, device=layout.device)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{layout.device} has no room for the keys and values of {count} conversations of "
                f"{layout.bytes_per_context / 2**20:,.0f} MB: set TERTULIA_CACHE_MB lower (one is always kept), "
                "TERTULIA_DTYPE to bfloat16, or free memory there"
            ) from None
        self.free = list(range(count))

    def take(self, adapter: object | None) -> KeyValues:
        """An empty conversation in the lowest free slot; ValueError if there is none."""
        slot = min(self.free)  # a step computes all slots up to the highest in use
        self.free.remove(slot)
        buffer = self.pool[:, :, slot, :, : self.layout.context].transpose(2, 3)  # (n_layer, 2, context, H, D)
        return KeyValues(self.layout, adapter, buffer, slot)

    def clear(self, slot: int, place: int) -> None:
        """Zeros from `place` on: NaN that an earlier conversation left would come through attention's mask."""
        self.pool[:, :, slot, :, place:] = 0


class SlotCache(PrefixCache):
    """A prefix cache whose conversations live in slots."""

    def __init__(self, slots: Slots) -> None:
        super().__init__(slots.layout, slots.count * slots.layout.bytes_per_context)
        self.slots = slots

    def promised_bytes(self, num_tokens: int) -> int:
        return self.layout.bytes_per_context

    def fresh(self, adapter: object | None, keeping: KeyValues | None = None) -> KeyValues | None:
        """The slot of the conversation used longest ago where none is free."""
        if not self.slots.free:
            oldest = next((kept for kept in self.idle if kept is not keeping), None)
            if oldest is None:
                return None
            self.idle.remove(oldest)
            self.drop(oldest)
        return self.slots.take(adapter)

    def drop(self, buffer: KeyValues) -> None:
        assert buffer.slot is not None
        self.slots.free.append(buffer.slot)
