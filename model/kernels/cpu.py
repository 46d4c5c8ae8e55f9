"""The compiled CPU kernels (linear*.c, storage*.c) behind the contract of `ops`.

Up to 16 rows of activations are multiplied straight from the codes (decoding is bound by reading the weights); so are
more rows (prefill, training) in bf16 where the processor has matrix tiles (AMX). Elsewhere a slice of the weight is
dequantised into a buffer that is used again, and torch multiplies. OpenMP's threads are torch's own: the library is
loaded after torch and finds its runtime.
"""

import contextlib
import ctypes
import mmap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from model.kernels import reference

MAX_ROWS = 16
MOST_WEIGHTS = 8  # in one call, as in linear.c
SLICE_BYTES = 2**25  # of dequantised weight at a time
KEPT_BYTES = 2**26  # of a thread's buffer between calls
LEVELS = ("portable", "avx2", "avx512", "avx512-vbmi", "amx")
DTYPES = {torch.float32: 0, torch.bfloat16: 1}


def _load() -> ctypes.CDLL:
    built = sorted(Path(__file__).parent.glob("_dynamic8*.so"))
    if not built:
        raise ImportError("the CPU kernels were not compiled when tertulia was installed (no C compiler was found)")
    library = ctypes.CDLL(str(built[0]))
    try:
        _declare(library)
    except AttributeError as error:
        raise ImportError(f"the compiled CPU kernels are older than this source ({error}): install it again") from None
    return library


def _declare(library: ctypes.CDLL) -> None:
    p, i, n = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.d8_best_level.restype = i
    library.d8_scratch_bytes.argtypes = [i, i, p, n, n, n, i]
    library.d8_scratch_bytes.restype = n
    library.d8_linears.argtypes = [i, p, i, p, n, p, n, n, i, p, i]
    library.d8_attend.argtypes = [i, p, p, p, p, p, p, p, n, n, n, n, n, n, i]
    library.d8_attend.restype = i
    library.d8_attend_prompt_bytes.argtypes = [i, i, n, n, n, i]
    library.d8_attend_prompt_bytes.restype = n
    library.d8_attend_prompt.argtypes = [p, p, p, p, p, p, n, p, n, n, n, n, p, i]
    library.d8_blocks.argtypes = [i, i, p, p, n, ctypes.c_float, p, p, p, n, n, n, n, n, i]
    library.d8_blocks.restype = i
    library.d8_takes_many.argtypes = [i, i, p, n, n]
    library.d8_takes_many.restype = i
    library.d8_backward.argtypes = [p, p, p, p, n, p, n, n, n, i]
    library.d8_backward.restype = i
    library.d8_norm.argtypes = [i, p, p, p, n, n, ctypes.c_float, p, i]
    library.d8_turn.argtypes = [i, p, p, n, n, n, n, i]
    library.d8_gelu.argtypes = [i, p, n, i]
    library.d8_add.argtypes = [i, p, p, p, n, i]
    library.d8_take_pages.argtypes = [p, n, n, n, i]
    library.d8_dequantize.argtypes = [i, p, p, p, n, n, p, i, i]
    library.d8_quantize.argtypes = [p, p, n, n, p, p, i]
    library.d8_quantize.restype = i
    library.d8_embedding.argtypes = [p, p, p, p, n, n, n, p]


library = _load()
level = library.d8_best_level()  # an index into LEVELS
_buffers = threading.local()


def levels() -> tuple[str, ...]:
    """The names of the levels that this processor has, the best last."""
    return LEVELS[: library.d8_best_level() + 1]


def use_level(name: str) -> None:
    """Choose the level for the whole process: one of `levels`, or "" for the best. Raises ValueError.

    No pass of a model may be under way.
    """
    global level
    if name and name not in levels():
        raise ValueError(f"level {name!r}: expected one of {', '.join(levels())} on this processor")
    level = LEVELS.index(name or levels()[-1])


def quantize(weight: Tensor, code: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """As `reference.quantize`, bit for bit."""
    source = weight.detach().float().contiguous()
    codes = torch.empty(source.shape, dtype=torch.uint8)
    absmax = torch.empty(-(-source.numel() // block_size), dtype=torch.float32)
    failed = library.d8_quantize(
        *(source.data_ptr(), code.data_ptr(), source.numel(), block_size, codes.data_ptr(), absmax.data_ptr()),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("no memory for the quantiser's table")
    return codes, absmax


def dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """As `reference.dequantize`, bit for bit."""
    if dtype not in DTYPES:
        return reference.dequantize(codes, absmax, code, block_size, dtype)
    codes = codes.contiguous()
    return _dequantize_into(torch.empty(codes.shape, dtype=dtype), codes, absmax, code, block_size)


def _dequantize_into(out: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    library.d8_dequantize(
        *(level, codes.data_ptr(), absmax.data_ptr(), code.data_ptr(), codes.numel(), block_size),
        *(out.data_ptr(), DTYPES[out.dtype], torch.get_num_threads()),
    )
    return out


def linear(x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Tensor:
    """As `reference.linear`, the code table exact to float32 rounding, or rounded to bf16 for bf16 x."""
    rows, (n_out, n_in) = x.numel() // x.shape[-1], codes.shape
    if x.dtype not in DTYPES:
        return reference.linear(x, codes, absmax, code, block_size, bias)
    if rows > MAX_ROWS and not takes_many(x.dtype, code, n_in, block_size):
        y = torch.empty(*x.shape[:-1], n_out, dtype=x.dtype)
        for rows_of, weight in _slices(codes, absmax, code, block_size, x.dtype):
            part = None if bias is None else bias[rows_of].to(x.dtype)
            y[..., rows_of] = F.linear(x, weight, part)
        return y
    if bias is not None and bias.dtype not in DTYPES:
        bias = bias.float()
    y = torch.empty(*x.shape[:-1], n_out, dtype=x.dtype)
    multiply(x.contiguous(), (Weight * 1)(prepare(codes, absmax, code, block_size, bias)), [y])
    return y


class Weight(ctypes.Structure):
    """weight_t of linear.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "absmax", "code", "bias")),
        *((name, ctypes.c_int64) for name in ("n_out", "block_size", "bias_dtype")),
    )


def prepare(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Weight:
    """weight_t of one stored weight; it points into the tensors, which must outlive it."""
    pointer, dtype = (None, 0) if bias is None else (bias.data_ptr(), DTYPES[bias.dtype])
    return Weight(codes.data_ptr(), absmax.data_ptr(), code.data_ptr(), pointer, codes.shape[0], block_size, dtype)


def multiply(x: Tensor, weights: ctypes.Array[Weight], ys: Sequence[Tensor], gelu: bool = False) -> None:
    """ys_i (..., N_i) = x (..., K) W_i^T + bias_i for weights of one K, block size and code table; all contiguous.

    gelu: the last of them goes through GELU by tanh.
    """
    assert 0 < len(ys) <= MOST_WEIGHTS
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    targets = (ctypes.c_void_p * len(ys))(*(y.data_ptr() for y in ys))
    dtype, threads, first, at = DTYPES[x.dtype], torch.get_num_threads(), weights[0], level
    size = library.d8_scratch_bytes(at, dtype, first.code, rows, width, first.block_size, threads)
    room = scratch(size)
    library.d8_linears(
        *(at, x.data_ptr(), dtype, weights, len(ys), targets),
        *(rows, width, gelu, room.data_ptr(), threads),
    )


def linear_backward(grad: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    """As `reference.linear_backward`; slices of the weight add up in float32."""
    rows, (n_out, n_in) = grad.numel() // grad.shape[-1], codes.shape
    if grad.dtype not in DTYPES:
        return reference.linear_backward(grad, codes, absmax, code, block_size)
    if takes_many(grad.dtype, code, n_in, block_size):
        grad = grad.contiguous()
        out = torch.empty(*grad.shape[:-1], n_in, dtype=grad.dtype)
        failed = library.d8_backward(
            *(grad.data_ptr(), codes.data_ptr(), absmax.data_ptr(), code.data_ptr(), block_size, out.data_ptr()),
            *(rows, n_out, n_in, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError(f"no memory to lay out {rows} x {n_out} gradients")
        return out
    total: Tensor | None = None
    for rows_of, weight in _slices(codes, absmax, code, block_size, grad.dtype):
        part = grad[..., rows_of] @ weight
        total = part if total is None else total.float() + part
    assert total is not None
    return total.to(grad.dtype)


def embedding(ids: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """As `reference.embedding`."""
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codes.shape[0]:
        raise IndexError(f"an id is outside the table of {codes.shape[0]} rows")
    ids = ids.long().contiguous()
    out = torch.empty(*ids.shape, codes.shape[1], dtype=torch.float32)
    library.d8_embedding(
        *(ids.data_ptr(), codes.data_ptr(), absmax.data_ptr(), code.data_ptr()),
        *(ids.numel(), codes.shape[1], block_size, out.data_ptr()),
    )
    return out.to(dtype)


def takes_many(dtype: torch.dtype, code: Tensor, n_in: int, block_size: int) -> bool:
    """Whether any number of rows is multiplied from the codes, both ways."""
    return dtype in DTYPES and bool(library.d8_takes_many(level, DTYPES[dtype], code.data_ptr(), n_in, block_size))


def _slices(
    codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, their weights in `dtype`), each at most SLICE_BYTES and beginning on a block; good until the next one.

    One buffer a thread: a fresh one each time costs more in page faults (0.8 Gparam/s a thread) than the work (4.0).
    """
    n_out, n_in = codes.shape
    step = SLICE_BYTES // (n_in * dtype.itemsize) // block_size * block_size  # ends on a block, whatever n_in
    if step == 0 or step >= n_out:
        step = n_out
    buffer = scratch(min(step, n_out) * n_in * dtype.itemsize).view(dtype)
    for start in range(0, n_out, step):
        rows = slice(start, min(start + step, n_out))
        scales = absmax[start * n_in // block_size : -(-rows.stop * n_in // block_size)]
        out = buffer[: codes[rows].numel()].view(-1, n_in)
        yield rows, _dequantize_into(out, codes[rows], scales, code, block_size)


def scratch(size: int) -> Tensor:
    """`size` bytes of this thread's own, kept for the next call unless they are more than KEPT_BYTES."""
    if size > KEPT_BYTES:
        return _huge_pages(size)
    if getattr(_buffers, "kept", None) is None or _buffers.kept.numel() < size:
        _buffers.kept = _huge_pages(size)
    return _buffers.kept[:size]


def _huge_pages(size: int) -> Tensor:
    """Fresh memory, in huge pages where the system has them: products of many rows are 1-4 % faster in them."""
    if size == 0 or not hasattr(mmap, "MADV_HUGEPAGE"):  # not Linux
        return torch.empty(size, dtype=torch.uint8)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return torch.empty(size, dtype=torch.uint8)  # or torch says that memory ran out, as everywhere else
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)
