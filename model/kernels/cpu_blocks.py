"""All blocks of a model in one call of the compiled CPU kernels (blocks.c), for single new tokens."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.kernels import cpu
from model.kernels.cpu_passes import Attention, Together

Block = tuple[nn.LayerNorm, Together, Together, Together]  # LayerNorm; q, k, v and fc_in; out_proj; fc_out


class _Block(ctypes.Structure):
    """block_t of blocks.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias")),
        *(("read", cpu.Weight * 4), ("attend", cpu.Weight), ("tell", cpu.Weight)),
    )


def are_alike(products: Sequence[Together]) -> bool:
    """Whether all weights have their block size and code table in common: blocks.c asks the first block's."""
    first = products[0]
    return all(each.block_size == first.block_size and torch.equal(each.code, first.code) for each in products)


class Blocks:
    """The blocks of a model with GELU by tanh. Their weights are alike and stay what and where they are."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        (norm, *products), *_ = blocks
        self._products, self._dtype, self._epsilon = products, norm.weight.dtype, norm.eps
        (width,), inner = norm.weight.shape, products[0].n_out[-1]
        for each, read, attend, tell in blocks:
            assert each.weight.shape == each.bias.shape == (width,)
            assert each.weight.dtype == each.bias.dtype == self._dtype
            assert each.weight.is_contiguous()
            assert each.bias.is_contiguous()
            assert each.eps == self._epsilon
            assert (read.n_in, read.n_out) == (width, [width, width, width, inner])
            assert (attend.n_in, attend.n_out, tell.n_in, tell.n_out) == (width, [width], inner, [width])
        prepared = [
            _Block(each.weight.data_ptr(), each.bias.data_ptr(), read.prepared, attend.prepared[0], tell.prepared[0])
            for each, read, attend, tell in blocks
        ]
        self._prepared = (_Block * len(blocks))(*prepared)
        self._held = [(block, block[0].weight.data, block[0].bias.data) for block in blocks]  # what is pointed to

    def takes(self, rows: int) -> bool:
        """Whether a pass may have so many rows."""
        return all(product.takes(rows, self._dtype) for product in self._products)

    def __call__(self, x: Tensor, seen: Attention) -> Tensor:
        """x (N, n_embd), written over -> (N, n_embd); the tokens' keys and values are in `seen`'s buffers then."""
        n_layer, _, context, heads, dim = seen.shape
        assert x.dtype == seen.dtype == self._dtype
        assert x.shape == (len(seen.past), heads * dim)
        assert x.is_contiguous()
        assert n_layer == len(self._prepared)
        assert 2 * seen.turns.shape[-1] <= dim
        assert self.takes(len(x))
        assert all(norm.weight.data_ptr() == held.data_ptr() for (norm, *_), held, _ in self._held), "loaded anew"
        failed = cpu.library.d8_blocks(
            *(cpu.level, cpu.DTYPES[x.dtype], x.data_ptr(), self._prepared, n_layer, self._epsilon),
            *(seen.turns.data_ptr(), seen.pointers, seen.past, len(x), heads, dim, 2 * seen.turns.shape[-1], context),
            torch.get_num_threads(),
        )
        if failed:
            raise MemoryError(f"no memory for a pass of {len(x)} rows")
        return x
