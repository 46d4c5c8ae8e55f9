"""The contract of the 8-bit operations: arguments checked once, here, then handed to the selected implementation.

Callers (`dynamic8`, `layers`) name an operation and never an implementation; only `engine.products` and `engine.rows`
go past it, for what the compiled CPU kernels do in one call (`cpu_passes`, `cpu_blocks`, `cpu_rows`). A new set of
kernels is a module with the five functions of `reference` and one more entry in `KERNELS`, perhaps with a `probe` of
the device, see `_working`.
"""

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

BLOCK_SIZES = tuple(2**n for n in range(6, 13))  # 64 ... 4096
KERNELS = {
    "cpu": "model.kernels.cpu",
    "bitsandbytes": "model.kernels.bnb",
    "reference": "model.kernels.reference",
    "triton": "model.kernels.triton_kernels",
}
_BY_DEVICE = {  # best first
    "cpu": ("cpu", "bitsandbytes", "reference"),
    "cuda": ("triton", "bitsandbytes", "reference"),
}

_choice = "auto"


def use(name: str) -> None:
    """Choose the implementation for the whole process: "auto" or a key of `KERNELS`.

    "cpu:avx2" also chooses a level of the compiled kernels, for good; "cpu:" chooses the best one again. Raises
    ValueError for another name or a level that this processor lacks.
    """
    global _choice
    kernels, colon, level = name.partition(":")
    if kernels not in ("auto", *KERNELS) or (colon and kernels != "cpu"):
        raise ValueError(f"kernels {name!r}: expected auto, {', '.join(KERNELS)}")
    if colon:
        import_module(KERNELS["cpu"]).use_level(level)
    _choice = kernels


def kernels(device: str = "cpu") -> ModuleType:
    """The implementation in use on a device type; where the chosen one cannot work there, the next best.

    A slower choice than the best is logged once.
    """
    return _load(_choice, device)


@cache
def _load(choice: str, device: str) -> ModuleType:
    names = _BY_DEVICE.get(device, ("reference",))
    if choice in names:
        try:
            return _working(choice, device)
        except (ImportError, OSError, RuntimeError) as error:
            raise ImportError(f"{error}; choose auto") from None
    if choice != "auto":
        logger.warning("the kernels %r do not run on %s, the best there are do", choice, device)
    for name in names:
        try:
            return _working(name, device)
        except (ImportError, OSError, RuntimeError) as error:
            logger.warning("8-bit arithmetic will be slower than it could be: %s", error)
    raise ImportError("no implementation of the 8-bit kernels can be loaded")


def _working(name: str, device: str) -> ModuleType:
    """The implementation; one that compiles at run time has `probe(device)`, which raises ImportError if it cannot."""
    module = import_module(KERNELS[name])
    if hasattr(module, "probe"):
        module.probe(device)
    return module


def num_blocks(numel: int, block_size: int) -> int:
    """How many blocks `numel` values make; the last may be short."""
    return -(-numel // block_size)


def quantize(weight: Tensor, code: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """weight (any shape) float -> codes (same shape) uint8, absmax (num_blocks,) float32. See `reference.quantize`."""
    _check_block_size(block_size)
    _check_code(code)
    if not weight.is_floating_point():
        raise ValueError(f"quantize: weight is {weight.dtype}, expected a floating dtype")
    return kernels(weight.device.type).quantize(weight, code, block_size)


def dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """codes (any shape) uint8 -> weight (same shape) in `dtype`. See `reference.dequantize`."""
    check_storage(codes, absmax, code, block_size)
    return kernels(codes.device.type).dequantize(codes, absmax, code, block_size, dtype)


def linear(x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Tensor:
    """x (..., K), codes (N, K), bias (N,) or None -> (..., N) in x's dtype."""
    check_storage(codes, absmax, code, block_size)
    _check_activations(x, codes, codes.shape[1])
    if bias is not None and (bias.shape != codes.shape[:1] or bias.device != codes.device):
        raise ValueError(f"bias is {list(bias.shape)} on {bias.device}, expected [{codes.shape[0]}] on {codes.device}")
    return kernels(codes.device.type).linear(x, codes, absmax, code, block_size, bias)


def linear_backward(grad: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    """grad (..., N), codes (N, K) -> gradient of the input (..., K)."""
    check_storage(codes, absmax, code, block_size)
    _check_activations(grad, codes, codes.shape[0])
    return kernels(codes.device.type).linear_backward(grad, codes, absmax, code, block_size)


def embedding(ids: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """ids (...) integer, codes (V, D) -> (..., D) in `dtype`."""
    check_storage(codes, absmax, code, block_size)
    if ids.is_floating_point() or ids.device != codes.device:
        raise ValueError(f"ids are {ids.dtype} on {ids.device}, expected integers on {codes.device}")
    return kernels(codes.device.type).embedding(ids, codes, absmax, code, block_size, dtype)


def check_storage(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> None:
    """Our own invariant (compiled kernels read raw pointers): a wrong dtype or length here is a bug, not bad input."""
    _check_block_size(block_size)
    _check_code(code)
    blocks = num_blocks(codes.numel(), block_size)
    if codes.dtype != torch.uint8 or absmax.dtype != torch.float32 or absmax.shape != (blocks,):
        raise ValueError(
            f"8-bit weight is {codes.dtype} with absmax {absmax.dtype} {tuple(absmax.shape)}, "
            f"expected uint8 with float32 ({blocks},)"
        )
    if not absmax.is_contiguous() or not codes.is_contiguous():
        raise ValueError("codes or absmax are strided, expected contiguous ones")
    if not codes.device == absmax.device == code.device:
        raise ValueError(f"codes, absmax and code are on {codes.device}, {absmax.device}, {code.device}, expected one")


def _check_activations(x: Tensor, codes: Tensor, width: int) -> None:
    if x.shape[-1:] != (width,) or not x.is_floating_point() or x.device != codes.device:
        raise ValueError(
            f"activations are {x.dtype} {list(x.shape)} on {x.device}, expected floats (..., {width}) on {codes.device}"
        )


def _check_code(code: Tensor) -> None:
    if code.dtype != torch.float32 or code.shape != (256,) or not code.is_contiguous():
        raise ValueError(f"code table is {code.dtype} {tuple(code.shape)}, expected contiguous float32 (256,)")


def _check_block_size(block_size: int) -> None:
    if block_size not in BLOCK_SIZES:
        raise ValueError(f"block_size is {block_size}, expected a power of two from 64 to 4096")
