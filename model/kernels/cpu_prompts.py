"""Attention of a prompt by the compiled CPU kernels (attention_amx.c)."""

import torch
from torch import Tensor

from model.kernels import cpu

LINE = 64  # bytes that a line of the cache holds: parts of the buffer begin on one


class PromptAttention:
    """What many new tokens of one conversation see of its keys and values, where there are matrix tiles for it."""

    def serves(self, buffer: Tensor) -> bool:
        """Whether it takes keys and values that are kept like this: (n_layer, 2, context, H, D)."""
        in_lines = buffer.data_ptr() % LINE == 0 and buffer.stride(1) * buffer.itemsize % LINE == 0
        return buffer.is_contiguous() and in_lines and self._room(buffer, 0, 1) > 0

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
        room = self._room(kept, past, rows)
        assert room > 0, "not served"
        cpu.library.d8_attend_prompt(
            *(query.data_ptr(), key.data_ptr(), value.data_ptr(), turns.data_ptr()),
            *(kept[0].data_ptr(), kept[1].data_ptr(), past, out.data_ptr(), rows, heads, dim, 2 * turns.shape[-1]),
            *(cpu.scratch(room).data_ptr(), torch.get_num_threads()),
        )

    @staticmethod
    def _room(kept: Tensor, past: int, rows: int) -> int:
        """Bytes of scratch; 0 where the kernels do not serve."""
        if kept.dtype not in cpu.DTYPES:
            return 0
        dtype, threads = cpu.DTYPES[kept.dtype], torch.get_num_threads()
        return int(cpu.library.d8_attend_prompt_bytes(cpu.level, dtype, past, rows, kept.shape[-1], threads))
