"""Triton kernels behind the contract of `ops`, for CUDA: a weight is read as one byte and never written out for it.

One row of activations is multiplied by a matrix-vector kernel, up to FUSED_ROWS by tiles on the tensor cores (forward
and backward to the input), more by torch on the dequantised weight; sums are kept in float32. The kernels themselves
are in `triton_linear`. Not measured on a device: they are right in Triton's interpreter and compile for Ampere and
Hopper; what may be fastest there is tried at the first call of a shape, and FUSED_ROWS is an estimate.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import gcd

import torch
from torch import Tensor
from torch.nn import functional as F

try:
    import triton
except ImportError as error:
    raise ImportError(f"{error}; Triton comes with torch's CUDA builds, for Linux") from None

from model.kernels import reference
from model.kernels import triton_linear as jit
from model.kernels.reference import quantize
from model.kernels.triton_choices import FEW, FLOAT32, MANY, STRIPS, Strip, Tiles, codes_in_a_row, fastest, usable
from model.kernels.triton_tables import lines

__all__ = ["dequantize", "embedding", "linear", "linear_backward", "probe", "quantize"]

FUSED_ROWS = 512  # each 128 of them decode the weight again; by estimate more are served better by one dequantisation
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def probe(device: str) -> None:
    """Compile and run one kernel: Triton may be there and not work (no C compiler, an old GPU). Raises ImportError."""
    codes = torch.arange(256, dtype=torch.uint8, device=device)
    code = torch.linspace(-1, 1, 256, device=device)
    try:
        right = torch.equal(dequantize(codes, torch.ones(4, device=device), code, 64, torch.float32), code)
    except Exception as error:  # whatever a compiler or driver raises
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ImportError(f"Triton does not work on {device} ({first})") from None
    if not right:
        raise ImportError(f"Triton computes wrongly on {device}")


def dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """As `reference.dequantize`, bit for bit."""
    if dtype not in _DTYPES:
        return reference.dequantize(codes, absmax, code, block_size, dtype)
    out = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    if codes.numel():
        with _on(codes):
            jit.dequantize[(triton.cdiv(codes.numel(), 4096),)](
                codes.contiguous(), absmax, code, out, codes.numel(), _log2(block_size), SIZE=4096, num_warps=8
            )
    return out


def embedding(ids: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """As `reference.embedding`, bit for bit; an id outside the table gives a row of NaN: nothing here waits for it."""
    if dtype not in _DTYPES:
        return reference.embedding(ids, codes, absmax, code, block_size, dtype)
    height, width = codes.shape
    out = torch.empty(*ids.shape, width, dtype=dtype, device=codes.device)
    if out.numel():
        with _on(codes):
            jit.embedding[(ids.numel(), triton.cdiv(width, 1024))](
                ids.contiguous(), codes, absmax, code, out, height, width, _log2(block_size), SIZE=1024, num_warps=4
            )
    return out


def linear(x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Tensor:
    """As `reference.linear`; the table is exact to float32 rounding, for one row the weight is not rounded first."""
    rows, n_out = x.numel() // max(x.shape[-1], 1), codes.shape[0]
    if x.dtype not in _DTYPES or not x.numel() or not n_out:
        return reference.linear(x, codes, absmax, code, block_size, bias)
    if rows > FUSED_ROWS:
        return F.linear(
            x, dequantize(codes, absmax, code, block_size, x.dtype), None if bias is None else bias.to(x.dtype)
        )
    y = torch.empty(*x.shape[:-1], n_out, dtype=x.dtype, device=x.device)
    with _on(codes):
        if rows == 1:
            _matvec(x.contiguous(), codes, absmax, code, block_size, bias, y)
        else:
            _multiply(x.contiguous(), codes, absmax, code, block_size, bias, y, rows, backward=False)
    return y


def linear_backward(grad: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    """As `reference.linear_backward`."""
    rows, n_in = grad.numel() // max(grad.shape[-1], 1), codes.shape[1]
    if grad.dtype not in _DTYPES or not grad.numel() or not n_in:
        return reference.linear_backward(grad, codes, absmax, code, block_size)
    if rows > FUSED_ROWS:
        return grad @ dequantize(codes, absmax, code, block_size, grad.dtype)
    out = torch.empty(*grad.shape[:-1], n_in, dtype=grad.dtype, device=grad.device)
    with _on(codes):
        _multiply(grad.contiguous(), codes, absmax, code, block_size, None, out, rows, backward=True)
    return out


def _matvec(
    x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None, y: Tensor
) -> None:
    n_out, n_in = codes.shape
    span, table = gcd(block_size, n_in), lines(code)
    width = min(span, 512) if span >= 64 else 256  # codes of a row at a time

    def launch(strip: Strip) -> None:
        height = max(strip.size // width, 1)
        jit.matvec[(triton.cdiv(n_out, height),)](
            *(x, codes, absmax, code, table.lines, x if bias is None else bias, y, n_out, n_in),
            BLOCK_LOG2=_log2(block_size),
            HAS_BIAS=bias is not None,
            SHARED=span >= width,
            SPAN=span,
            HEIGHT=height,
            WIDTH=width,
            DECODE=table.decoder(strip.decode),
            num_warps=strip.num_warps,
        )

    launch(fastest((1, n_out, n_in, block_size, x.dtype, table.followed), usable(STRIPS, table), launch, codes.device))


def _multiply(
    x: Tensor,
    codes: Tensor,
    absmax: Tensor,
    code: Tensor,
    block_size: int,
    bias: Tensor | None,
    y: Tensor,
    rows: int,
    *,
    backward: bool,
) -> None:
    """y (rows, N) = x W^T + bias, or with `backward` y (rows, K) = x W; x and y contiguous."""
    n_out, n_in = codes.shape
    outputs, terms = (n_in, n_out) if backward else (n_out, n_in)
    span, table = gcd(block_size, n_in), lines(code)

    def launch(tiles: Tiles) -> None:
        programs = triton.cdiv(rows, tiles.rows) * triton.cdiv(outputs, tiles.outputs)
        steps = triton.cdiv(terms, tiles.terms)
        # Too few programs leave processors idle: several share a sum, and their parts are added in a fixed order.
        splits = max(1, min(4 * _processors(codes.device) // programs, steps // 4, 16))
        terms_each = triton.cdiv(steps, splits) * tiles.terms
        splits = triton.cdiv(terms, terms_each)
        target = y if splits == 1 else torch.empty(splits, rows, outputs, dtype=torch.float32, device=y.device)
        jit.multiply[(triton.cdiv(rows, tiles.rows), triton.cdiv(outputs, tiles.outputs), splits)](
            *(x, codes, absmax, code, table.lines, x if bias is None else bias, target),
            *(rows, n_out, n_in, terms_each),
            BLOCK_LOG2=_log2(block_size),
            HAS_BIAS=bias is not None and splits == 1,
            BACKWARD=backward,
            SHARED=span >= codes_in_a_row(tiles, backward),
            ROWS=tiles.rows,
            OUTPUTS=tiles.outputs,
            TERMS=tiles.terms,
            DECODE=table.decoder(tiles.decode),
            WIDEN=x.device.type == "cpu" and x.dtype == torch.bfloat16,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )
        if splits > 1:
            jit.add_splits[(triton.cdiv(rows * outputs, 1024),)](
                *(target, y if bias is None else bias, y, rows * outputs, outputs, splits),
                HAS_BIAS=bias is not None,
                SIZE=1024,
                num_warps=4,
            )

    choices = usable(FLOAT32 if x.dtype == torch.float32 else FEW if rows <= 16 else MANY, table)
    choices = [tiles for tiles in choices if codes_in_a_row(tiles, backward) <= span] or choices
    bucket = 16 if rows <= 16 else triton.next_power_of_2(rows)
    key = (bucket, n_out, n_in, block_size, x.dtype, table.followed, backward)
    launch(fastest(key, choices, launch, codes.device))


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def _on(codes: Tensor) -> AbstractContextManager:
    """Triton launches on the current device, which is not always that of the weight."""
    return torch.cuda.device(codes.device) if codes.device.type == "cuda" else nullcontext()


def _log2(block_size: int) -> int:
    return block_size.bit_length() - 1
