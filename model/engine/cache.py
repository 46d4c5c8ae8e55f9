"""Keys and values of conversations: one growing buffer each, and the idle ones kept for the next turn.

Always: positions 0..len(ids) of a buffer hold exactly what its `ids` gave under its adapter, so whatever shares a
prefix of ids and the adapter may read on from there. Time comes first in memory: a conversation touches only the pages
it uses, though the buffer is as long as the model's context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Below so many shared tokens a new buffer is filled from nothing: copying would save less than it costs to look at.
WORTH_COPYING = 16


@dataclass(frozen=True)
class Layout:
    """What a buffer of keys and values looks like: the numbers of the model."""

    n_layer: int
    n_head: int
    head_dim: int
    context: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.n_layer * self.n_head * self.head_dim * self.dtype.itemsize

    @property
    def bytes_per_context(self) -> int:
        return self.context * self.bytes_per_token


class KeyValues:
    """One conversation's keys and values, (n_layer, 2, context, H, D), and the ids and the adapter they belong to.

    buffer: memory to keep them in (default: its own); slot: the number of the slot that it is (`engine.slots`).
    """

    def __init__(
        self, layout: Layout, adapter: object | None, buffer: Tensor | None = None, slot: int | None = None
    ) -> None:
        self.layout, self.adapter, self.slot = layout, adapter, slot
        self.ids: list[int] = []
        self.highest = 0  # tokens whose pages have been touched
        if buffer is None:
            shape = (layout.n_layer, 2, layout.context, layout.n_head, layout.head_dim)
            buffer = torch.empty(shape, dtype=layout.dtype, device=layout.device)
        self.buffer = buffer

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys, values (n, H, D) of the ids that follow -> all keys and values of the layer, (H, past + n, D)."""
        past, end = len(self.ids), len(self.ids) + keys.shape[0]
        stored = self.buffer[layer]
        stored[0, past:end], stored[1, past:end] = keys, values
        return stored[0, :end].transpose(0, 1), stored[1, :end].transpose(0, 1)

    def advance(self, ids: Sequence[int]) -> None:
        """Every layer holds `ids` now; a pass that failed half way never gets here and is simply written over."""
        self.ids += ids
        self.highest = max(self.highest, len(self.ids))

    def crop(self, length: int) -> None:
        del self.ids[length:]

    def take_prefix(self, other: KeyValues, length: int) -> None:
        """Takes in the first `length` tokens of another; this one is empty."""
        self.buffer[:, :, :length] = other.buffer[:, :, :length]
        self.advance(other.ids[:length])

    @property
    def size_bytes(self) -> int:
        return self.highest * self.layout.bytes_per_token


class PrefixCache:
    """Idle conversations, most recently used last; bounded together with those that are being answered."""

    def __init__(self, layout: Layout, budget_bytes: int) -> None:
        self.layout, self.budget_bytes = layout, budget_bytes
        self.idle: list[KeyValues] = []

    def promised_bytes(self, num_tokens: int) -> int:
        """What a conversation that may grow to so many tokens can come to hold."""
        return num_tokens * self.layout.bytes_per_token

    def take(self, ids: Sequence[int], adapter: object | None) -> KeyValues:
        """A buffer for `ids`, holding as long a prefix of them as is known, but never all: the last gives the logits.

        A conversation that goes on gets its own buffer back; another that only shares its beginning gets a copy.
        """
        best, shared = None, 0
        for kept in self.idle:
            if kept.adapter is adapter:
                common = shared_prefix(kept.ids, ids)
                if common > shared:
                    best, shared = kept, common
        if best is None or (2 * shared < len(best.ids) and shared < WORTH_COPYING):
            found = self.fresh(adapter)
            assert found is not None
            return found
        if 2 * shared < len(best.ids) and (copy := self.fresh(adapter, keeping=best)):
            copy.take_prefix(best, shared)
            return copy
        self.idle.remove(best)
        best.crop(shared)
        return best

    def fresh(self, adapter: object | None, keeping: KeyValues | None = None) -> KeyValues | None:
        """An empty buffer; None if there is room for one only without `keeping`."""
        return KeyValues(self.layout, adapter)

    def drop(self, buffer: KeyValues) -> None:
        """What it holds is not wanted any more."""

    def give(self, buffer: KeyValues) -> None:
        """Keep what a finished reply leaves."""
        if buffer.ids:
            self.idle.append(buffer)
        else:
            self.drop(buffer)

    def make_room(self, promised_bytes: int) -> None:
        """Forget the least recently used until `promised_bytes` of running replies fit beside the rest."""
        while self.idle and self.size_bytes + promised_bytes > self.budget_bytes:
            self.drop(self.idle.pop(0))

    @property
    def size_bytes(self) -> int:
        return sum(kept.size_bytes for kept in self.idle)


def shared_prefix(kept: Sequence[int], ids: Sequence[int]) -> int:
    """How many ids from the first on are the same, of `ids` at most all but the last."""
    longest = min(len(kept), len(ids) - 1)
    if list(kept[:longest]) == list(ids[:longest]):
        return longest
    return next(place for place in range(longest) if kept[place] != ids[place])
