"""What one pass of a model asks of the compiled CPU kernels, in few calls with their arguments prepared.

Beside streamed weights an operation costs several times what it costs in a loop of its own: little of the interpreter,
of torch and of the operation itself is in cache any more.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from model.kernels import cpu
from model.kernels.cpu_rows import apply_gelu

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
        self.prepared = (cpu.Weight * len(weights))(*(cpu.prepare(*stored) for stored in self._weights))
        self.n_in, self.n_out = weights[0][0].shape[1], [stored[0].shape[0] for stored in weights]
        self.code, self.block_size = weights[0][2:4]

    def takes(self, rows: int, dtype: torch.dtype) -> bool:
        """Whether so many rows go in one call."""
        few = rows <= cpu.MAX_ROWS
        return dtype in cpu.DTYPES and (few or cpu.takes_many(dtype, self.code, self.n_in, self.block_size))

    def __call__(self, x: Tensor, into: list[Tensor] | None = None, *, gelu: bool = False) -> list[Tensor]:
        """x (N, K) -> for each weight (N, out_i); `gelu`: the last of them through GELU by tanh.

        `into` is what an earlier call gave for as many rows; where the rows go in one call it is written over.
        """
        assert x.shape[1] == self.n_in
        if not self.takes(len(x), x.dtype):
            ys = [cpu.linear(x, *stored) for stored in self._weights]
            return [*ys[:-1], apply_gelu(ys[-1])] if gelu else ys
        ys = into or [torch.empty(len(x), size, dtype=x.dtype) for size in self.n_out]
        assert [y.shape for y in ys] == [(len(x), size) for size in self.n_out]
        assert all(y.dtype == x.dtype and y.is_contiguous() for y in ys)
        cpu.multiply(x.contiguous(), self.prepared, ys, gelu)
        return ys

    def activated(self, x: Tensor, into: list[Tensor] | None = None) -> list[Tensor]:
        """With GELU of the last."""
        return self(x, into, gelu=True)


class Attention:
    """What new tokens of several conversations, one of each, see of their keys and values; see `attention.c`."""

    def __init__(self, buffers: Sequence[Tensor], past: Sequence[int], turns: Tensor) -> None:
        """buffers: of each row (n_layer, 2, context, H, D), float32 or bfloat16, of which the first `past` positions
        are used; turns (N, rotary_dim / 2) complex64: by which angles its pairs are turned."""
        self.past = (ctypes.c_int64 * len(past))(*past)
        self.pointers = (ctypes.c_void_p * len(past))(*(buffer.data_ptr() for buffer in buffers))
        self.dtype, self.shape = buffers[0].dtype, buffers[0].shape
        self.context = buffers[0].shape[2]
        assert max(past) < self.context, "a buffer is full"
        assert turns.dtype == torch.complex64
        assert all(b.dtype == self.dtype and b.shape == self.shape and b.is_contiguous() for b in buffers)
        self.turns = turns.contiguous()

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, key, value (N, H, D), not turned yet -> (N, H, D); the keys and values are in the buffers then."""
        rows, heads, dim = query.shape
        assert query.dtype == key.dtype == value.dtype == self.dtype
        assert 2 * self.turns.shape[-1] <= dim
        out = torch.empty_like(value, memory_format=torch.contiguous_format)
        parts = [part.contiguous() for part in (query, key, value)]
        failed = cpu.library.d8_attend(
            *(cpu.DTYPES[self.dtype], *(part.data_ptr() for part in parts), self.turns.data_ptr()),
            *(self.pointers, self.past, out.data_ptr(), layer, rows, heads, dim, 2 * self.turns.shape[-1]),
            *(self.context, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError(f"no memory for the attention over {self.context} positions")
        return out
