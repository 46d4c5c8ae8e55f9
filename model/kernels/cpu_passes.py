"""What one pass of a model asks of the compiled CPU kernels, in few calls with their arguments prepared.

Beside streamed weights an operation costs several times what it costs in a loop of its own: little of the interpreter,
of torch and of the operation itself is in cache any more.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

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
        self.prepared = (cpu.Weight * len(weights))(*(cpu.prepare(*stored) for stored in self._weights))
        self._sizes = [stored[0].shape[0] for stored in self._weights]

    def takes(self, rows: int, dtype: torch.dtype) -> bool:
        """Whether so many rows go in one call."""
        codes, _, code, block_size, _ = self._weights[0]
        few = rows <= cpu.MAX_ROWS
        return dtype in cpu.DTYPES and (few or cpu.takes_many(dtype, code, codes.shape[1], block_size))

    def __call__(self, x: Tensor, into: list[Tensor] | None = None) -> list[Tensor]:
        """x (N, K) -> for each weight (N, out_i); `into`: what an earlier call gave for as many rows, to write over."""
        assert x.shape[1] == self._weights[0][0].shape[1]
        if not self.takes(len(x), x.dtype):
            return [cpu.linear(x, *stored) for stored in self._weights]
        ys = into or [torch.empty(len(x), size, dtype=x.dtype) for size in self._sizes]
        assert all(y.shape == (len(x), size) and y.dtype == x.dtype for y, size in zip(ys, self._sizes, strict=True))
        cpu.multiply(x.contiguous(), self.prepared, ys)
        return ys


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


@dataclass(frozen=True)
class BlockParts:
    """Of one block: its LayerNorm's weight and bias, and its products: q, k, v and fc_in; out_proj; fc_out."""

    norm_weight: Tensor
    norm_bias: Tensor
    read: Together
    attend: Together
    tell: Together


class _Block(ctypes.Structure):
    """block_t of blocks.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias")),
        *(("read", cpu.Weight * 4), ("attend", cpu.Weight), ("tell", cpu.Weight)),
    )


class Blocks:
    """All blocks of a model with GELU by tanh, for rows that are one new token each; what they hold stays in place."""

    def __init__(self, blocks: Sequence[BlockParts], epsilon: float) -> None:
        self._held, self._epsilon = list(blocks), epsilon
        self._dtype = blocks[0].norm_weight.dtype
        norms = [norm for block in blocks for norm in (block.norm_weight, block.norm_bias)]
        assert all(norm.dtype == self._dtype and norm.is_contiguous() for norm in norms)
        self._prepared = (_Block * len(blocks))(
            *(
                _Block(
                    b.norm_weight.data_ptr(),
                    b.norm_bias.data_ptr(),
                    b.read.prepared,
                    b.attend.prepared[0],
                    b.tell.prepared[0],
                )
                for b in blocks
            )
        )

    def takes(self, rows: int) -> bool:
        """Whether a pass may have so many rows."""
        return all(part.takes(rows, self._dtype) for b in self._held[:1] for part in (b.read, b.attend, b.tell))

    def __call__(self, x: Tensor, seen: Attention) -> Tensor:
        """x (N, n_embd) of the norms' dtype -> (N, n_embd); the tokens' keys and values are in the buffers then."""
        x = x.clone(memory_format=torch.contiguous_format)
        n_layer, _, context, heads, dim = seen.shape
        assert x.dtype == seen.dtype == self._dtype
        assert x.shape == (len(seen.past), heads * dim)
        assert n_layer == len(self._prepared)
        assert self.takes(len(x))
        failed = cpu.library.d8_blocks(
            *(cpu.level, cpu.DTYPES[x.dtype], x.data_ptr(), self._prepared, n_layer, self._epsilon),
            *(seen.turns.data_ptr(), seen.pointers, seen.past, len(x), heads, dim, 2 * seen.turns.shape[-1], context),
            torch.get_num_threads(),
        )
        if failed:
            raise MemoryError(f"no memory for a pass of {len(x)} rows")
        return x
