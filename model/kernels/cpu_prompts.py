"""Attention of a prompt by the compiled CPU kernels (attention_amx.c)."""

import torch
from torch import Tensor

from model.kernels import cpu

LINE = 64  # bytes of a line of the cache: a buffer begins on one, or its parts could not be written past the caches


class PromptAttention:
    """What many new tokens of one conversation see of its keys and values, where there are matrix tiles for it."""

    def serves(self, buffer: Tensor) -> bool:
        """Whether it takes keys and values that are kept like this: (n_layer, 2, context, H, D)."""
        return buffer.is_contiguous() and buffer.data_ptr() % LINE == 0 and _room(buffer, 0, 1, 1) > 0

    def __call__(
        self, kept: Tensor, past: int, query: Tensor, key: Tensor, value: Tensor, turns: Tensor, out: Tensor
    ) -> None:
        """query, key, value (N, H, D), not turned yet -> out (N, H, D), causal; turns (N, 1, P) complex64.

        kept: a layer of a buffer, (2, context, H, D), of which `past` positions are filled; the keys and values stand
        behind them then.
        """
        rows, heads, dim = query.shape
        assert query.shape == key.shape == value.shape == out.shape
        assert kept.shape[0] == 2
        assert kept.shape[2:] == (heads, dim)
        assert past + rows <= kept.shape[1], "a buffer is full"
        assert query.dtype == key.dtype == value.dtype == out.dtype == kept.dtype
        assert all(part.is_contiguous() for part in (kept, query, key, value, turns, out))
        assert turns.dtype == torch.complex64
        assert len(turns) == rows
        assert 2 * turns.shape[-1] <= dim
        assert kept.data_ptr() % LINE == 0
        threads = min(torch.get_num_threads(), heads)  # a head is one thread's
        size = _room(kept, past, rows, threads)
        assert size > 0, "not served"
        room = cpu.scratch(size)
        cpu.library.d8_attend_prompt(
            *(query.data_ptr(), key.data_ptr(), value.data_ptr(), turns.data_ptr()),
            *(kept[0].data_ptr(), kept[1].data_ptr(), past, out.data_ptr(), rows, heads, dim, 2 * turns.shape[-1]),
            *(room.data_ptr(), threads),
        )


def _room(kept: Tensor, past: int, rows: int, threads: int) -> int:
    """Bytes of scratch for `rows` new tokens behind `past`; 0 where the kernels do not serve."""
    if kept.dtype not in cpu.DTYPES:
        return 0
    dim = kept.shape[-1]
    return int(cpu.library.d8_attend_prompt_bytes(cpu.level, cpu.DTYPES[kept.dtype], past, rows, dim, threads))
