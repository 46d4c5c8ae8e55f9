"""The pure-torch truth of every 8-bit operation: slow, plain, any device. Each fast kernel is tested against it.

Format: `W.flat[i] = code[codes.flat[i]] * absmax[i // block_size]`, blocks over the row-major flattened weight; a block
may span rows and the last one may be short (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization").
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def quantize(weight: Tensor, code: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """weight (any shape) float, code (256,) float32 -> codes (same shape) uint8, absmax (num_blocks,) float32.

    Each value is scaled by its block's largest magnitude and goes to the nearest entry of the sorted code.
    """
    blocks = _blocks(weight.float().flatten(), block_size)
    absmax = blocks.abs().amax(dim=1)
    scale = torch.where(absmax > 0, 1.0 / absmax, 0.0)
    boundaries = (code[:-1] + code[1:]) / 2
    codes = torch.bucketize(blocks * scale[:, None], boundaries, out_int32=True).to(torch.uint8)
    return codes.flatten()[: weight.numel()].reshape(weight.shape), absmax


def dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """codes (any shape) uint8, absmax (num_blocks,), code (256,) -> weight (same shape) in `dtype`.

    The product is taken in float32 and rounded once.
    """
    blocks = _blocks(code.index_select(0, codes.flatten().int()), block_size)
    return (blocks * absmax[:, None]).flatten()[: codes.numel()].reshape(codes.shape).to(dtype)


def linear(x: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, bias: Tensor | None) -> Tensor:
    """x (..., K) float, codes (N, K), bias (N,) or None -> (..., N) in x's dtype."""
    weight = dequantize(codes, absmax, code, block_size, x.dtype)
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def linear_backward(grad: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int) -> Tensor:
    """grad (..., N) float, codes (N, K) -> gradient of the input (..., K) in grad's dtype."""
    return grad @ dequantize(codes, absmax, code, block_size, grad.dtype)


def embedding(ids: Tensor, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, dtype: torch.dtype) -> Tensor:
    """ids (...) integer, codes (V, D) -> rows (..., D) in `dtype`; only the rows asked for are dequantised."""
    width = codes.shape[1]
    rows = code[F.embedding(ids, codes).int()]  # (..., D)
    position = ids[..., None] * width + torch.arange(width, device=ids.device)
    return (rows * absmax[position // block_size]).to(dtype)


def _blocks(flat: Tensor, block_size: int) -> Tensor:
    """flat (n,) -> (ceil(n / block_size), block_size), the last block filled up with zeros."""
    return F.pad(flat, (0, -flat.numel() % block_size)).view(-1, block_size)
