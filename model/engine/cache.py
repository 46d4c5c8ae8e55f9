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


class KeyValues:
    """One conversation's keys and values, (n_layer, 2, context, H, D), and the ids and the adapter they belong to."""

    def __init__(self, layout: Layout, adapter: object | None) -> None:
        self.layout, self.adapter = layout, adapter
        self.ids: list[int] = []
        self.highest = 0  # tokens whose pages have been touched
        shape = (layout.n_layer, 2, layout.context, layout.n_head, layout.head_dim)
        self.buffer = torch.empty(shape, dtype=layout.dtype, device=layout.device)

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

    def copy_prefix(self, length: int) -> KeyValues:
        """A buffer of its own with the first `length` tokens."""
        copy = KeyValues(self.layout, self.adapter)
        copy.buffer[:, :, :length] = self.buffer[:, :, :length]
        copy.advance(self.ids[:length])
        return copy

    @property
    def size_bytes(self) -> int:
        return self.highest * self.layout.bytes_per_token


class PrefixCache:
    """Idle conversations, most recently used last; bounded together with those that are being answered."""

    def __init__(self, layout: Layout, budget_bytes: int) -> None:
        self.layout, self.budget_bytes = layout, budget_bytes
        self.idle: list[KeyValues] = []

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
            return KeyValues(self.layout, adapter)
        if 2 * shared < len(best.ids):
            return best.copy_prefix(shared)
        self.idle.remove(best)
        best.crop(shared)
        return best

    def give(self, buffer: KeyValues) -> None:
        """Keep what a finished reply leaves."""
        if buffer.ids:
            self.idle.append(buffer)

    def make_room(self, promised_bytes: int) -> None:
        """Forget the least recently used until `promised_bytes` of running replies fit beside the rest."""
        while self.idle and self.size_bytes + promised_bytes > self.budget_bytes:
            del self.idle[0]

    def forget_adapter(self, adapter: object) -> None:
        self.idle = [kept for kept in self.idle if kept.adapter is not adapter]

    @property
    def size_bytes(self) -> int:
        return sum(kept.size_bytes for kept in self.idle)


def shared_prefix(kept: Sequence[int], ids: Sequence[int]) -> int:
    """How many ids from the first on are the same, of `ids` at most all but the last."""
    longest = min(len(kept), len(ids) - 1)
    if list(kept[:longest]) == list(ids[:longest]):
        return longest
    return next(place for place in range(longest) if kept[place] != ids[place])
