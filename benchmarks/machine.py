"""What the machine can do at best: the yardsticks that stand beside the figures of the same run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from benchmarks.process import seconds
from benchmarks.random_model import UNUSED

CHUNK_BYTES = 2**22  # of a scan: the threads take chunks as they become free


def read_gbs(weights: Sequence[Tensor]) -> float:
    """GB/s of reading uint8 weights once: the better of libc's memchr on torch's number of threads and torch's sum.

    memchr looks for `UNUSED`, which random weights do not hold; in real ones it stops early, and torch's sum counts.
    """
    size = sum(tensor.numel() for tensor in weights)
    words = [tensor.view(-1)[: tensor.numel() // 8 * 8].view(torch.int64) for tensor in weights]
    best = size / seconds(lambda: [tensor.sum() for tensor in words])
    chunks = [
        (tensor.data_ptr() + start, min(CHUNK_BYTES, tensor.numel() - start))
        for tensor in weights
        for start in range(0, tensor.numel(), CHUNK_BYTES)
    ]
    libc = ctypes.CDLL(None)
    libc.memchr.argtypes, libc.memchr.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    found: list[int | None] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        took = seconds(lambda: found.extend(pool.map(lambda chunk: libc.memchr(chunk[0], UNUSED, chunk[1]), chunks)))
    return max(best, 0.0 if any(found) else size / took) / 1e9


def matrix_gflops(rows: int, dtype: torch.dtype, repeats: int = 3) -> float:
    """The best GFLOP/s of torch's product of (rows, 4096) with a plain (16384, 4096) weight in `dtype`."""
    x, weight = torch.randn(rows, 4096).to(dtype), torch.randn(16384, 4096).to(dtype)
    torch.nn.functional.linear(x, weight)
    best = min(seconds(lambda: torch.nn.functional.linear(x, weight)) for _ in range(repeats))
    return 2 * rows * weight.numel() / best / 1e9
