"""What one pass of a model asks of the compiled CPU kernels, in few calls with their arguments prepared.

Beside streamed weights an operation costs several times what it costs in a loop of its own: little of the interpreter,
of torch and of the operation itself is in cache any more.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from model.kernels import cpu

Stored = tuple[Tensor, Tensor, Tensor, int, Tensor | None]  # codes, absmax, code, block size, bias: see `ops.linear`


def can_go_together(weights: Sequence[Stored]) -> bool:
    """Whether they have K, block size and code table in common."""
    (codes, _, code, block_size, _), *others = weights
    return len(weights) <= cpu.MOST_WEIGHTS and all(
        (other[0].shape[1], other[3]) == (codes.shape[1], block_size) and torch.equal(other[2], code)
        for other in others
    )


class Together:
    """Weights that multiply the same rows, in one call: y_i (N, out_i) = x (N, K) W_i^T + bias_i.

    They are checked (`ops.check_storage`), can go together, and stay what and where they are.
    """

    def __init__(self, weights: Sequence[Stored]) -> None:
        self._weights: list[Stored] = [
            (codes, absmax, code, block_size, bias if bias is None or bias.dtype in cpu.DTYPES else bias.float())
            for codes, absmax, code, block_size, bias in weights
        ]
        self._prepared = (cpu.Weight * len(weights))(*(cpu.prepare(*stored) for stored in self._weights))
        self._sizes = [stored[0].shape[0] for stored in self._weights]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """x (N, K) -> for each weight (N, out_i)."""
        code, block_size = self._weights[0][2:4]
        assert x.shape[1] == self._weights[0][0].shape[1]
        few = len(x) <= cpu.MAX_ROWS
        if x.dtype not in cpu.DTYPES or not (few or cpu.takes_many(x.dtype, code, x.shape[1], block_size)):
            return [cpu.linear(x, *stored) for stored in self._weights]
        ys = [torch.empty(len(x), size, dtype=x.dtype) for size in self._sizes]
        cpu.multiply(x.contiguous(), self._prepared, ys)
        return ys


class Attention:
    """What new tokens of several conversations, one of each, see of their keys and values; see `attention.c`."""

    def __init__(self, buffers: Sequence[Tensor], past: Sequence[int], turns: Tensor) -> None:
        """buffers: of each row (n_layer, 2, context, H, D), float32 or bfloat16, of which the first `past` positions
        are used; turns (N, rotary_dim / 2) complex64: by which angles its pairs are turned."""
        self._past = (ctypes.c_int64 * len(past))(*past)
        self._pointers = (ctypes.c_void_p * len(past))(*(buffer.data_ptr() for buffer in buffers))
        self._context, self._dtype = buffers[0].shape[2], buffers[0].dtype
        assert max(past) < self._context, "a buffer is full"
        assert all(b.dtype == self._dtype and b.shape == buffers[0].shape and b.is_contiguous() for b in buffers)
        self._turns = turns.contiguous()

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, key, value (N, H, D), not turned yet -> (N, H, D); the keys and values are in the buffers then."""
        rows, heads, dim = query.shape
        assert query.dtype == key.dtype == value.dtype == self._dtype
        assert 2 * self._turns.shape[-1] <= dim
        out = torch.empty_like(value, memory_format=torch.contiguous_format)
        parts = [part.contiguous() for part in (query, key, value)]
        failed = cpu.library.d8_attend(
            *(cpu.DTYPES[self._dtype], *(part.data_ptr() for part in parts), self._turns.data_ptr()),
            *(self._pointers, self._past, out.data_ptr(), layer, rows, heads, dim, 2 * self._turns.shape[-1]),
            *(self._context, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError(f"no memory for the attention over {self._context} positions")
        return out
