"""The GPT-J of `model/gptj.py` as a training step on packed rows wants it: same parameter names, same function,
faster on a CPU.

What differs is only how it is computed: q, k and v are one matrix product, attention is explicit (on a CPU it beats
SDPA at 256 positions) under a mask built from document ids, and the head runs on the positions that carry loss. A
test holds its logits equal to the real model's.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Size of the network; the defaults are the recipe's at its end (17.4 M parameters)."""

    vocab_size: int = 8000
    n_positions: int = 512
    n_embd: int = 320
    n_layer: int = 10
    n_head: int = 5
    rotary_dim: int = 32

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def rotary_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """GPT-J's interleaved rotary angles -> (cos, sin), each (n_positions, rotary_dim / 2) float32."""
    inverse = 1.0 / (10000 ** (torch.arange(0, shape.rotary_dim, 2).float() / shape.rotary_dim))
    angles = torch.outer(torch.arange(shape.n_positions).float(), inverse)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the first 2 * cos.size(-1) features of x (B, T, H, D) in neighbouring pairs; cos, sin (B, T, 1, R/2)."""
    size = cos.size(-1) * 2
    pairs = x[..., :size].unflatten(-1, (-1, 2))
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)
    return torch.cat((turned.to(x.dtype), x[..., size:]), -1)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.q_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.k_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.v_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.out_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, allowed: Tensor) -> Tensor:
        batch, length, width = x.shape
        stacked = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        q, k, v = F.linear(x, stacked).view(batch, length, 3, self.n_head, -1).unbind(2)  # (B, T, H, D)
        q = rotate(q, cos, sin).transpose(1, 2) * (q.size(-1) ** -0.5)
        k = rotate(k, cos, sin).transpose(1, 2)
        scores = (q @ k.transpose(-1, -2)).masked_fill(~allowed, float("-inf"))  # (B, H, T, T)
        mixed = F.softmax(scores, -1, dtype=scores.dtype) @ v.transpose(1, 2)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.fc_in = nn.Linear(shape.n_embd, 4 * shape.n_embd)
        self.fc_out = nn.Linear(4 * shape.n_embd, shape.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        # matmul + bias, not addmm: the compiler then fuses the bias into the next kernel instead of copying it first
        x = F.linear(x, self.fc_in.weight) + self.fc_in.bias
        # gelu_new with 0.5 (1 + tanh u) written as sigmoid(2u): the same function, and exp costs half of tanh here
        inner = x * torch.sigmoid(x * (1.5957691216 + 0.0713548163 * x * x))
        return F.linear(inner, self.fc_out.weight) + self.fc_out.bias


class Block(nn.Module):
    """One LayerNorm feeds attention and feed-forward in parallel, as in GPT-J; what they add may be dropped out."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.ln_1 = nn.LayerNorm(shape.n_embd, eps=1e-5)
        self.attn = Attention(shape)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, allowed: Tensor) -> Tensor:
        h = self.ln_1(x)
        return x + F.dropout(self.attn(h, cos, sin, allowed) + self.mlp(h), self.dropout, self.training)


class Transformer(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.h = nn.ModuleList(Block(shape, dropout) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd, eps=1e-5)


class PretrainGPTJ(nn.Module):
    """GPT-J over packed rows: `hidden` for the whole row, `lm_head` where the caller wants logits."""

    def __init__(self, shape: Shape, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.transformer = Transformer(shape, dropout)
        self.lm_head = nn.Linear(shape.n_embd, shape.vocab_size)
        cos, sin = rotary_tables(shape)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("out_proj.weight", "fc_out.weight"))
                std = 0.02 / math.sqrt(2 * shape.n_layer) if into_residual else 0.02
                nn.init.normal_(parameter, 0.0, std, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, input_ids: Tensor, position_ids: Tensor, documents: Tensor) -> Tensor:
        """input_ids, position_ids, documents (B, T) int64; a position sees earlier ones of its own document -> (B, T,
        n_embd).
        """
        length = input_ids.size(1)
        causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
        allowed = ((documents[:, :, None] == documents[:, None, :]) & causal)[:, None]  # (B, 1, T, T)
        cos, sin = self.cos[position_ids][:, :, None], self.sin[position_ids][:, :, None]
        x = F.dropout(self.transformer.wte(input_ids), self.dropout, self.training)
        for block in self.transformer.h:
            x = block(x, cos, sin, allowed)
        return self.transformer.ln_f(x)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits of every position, (B, T, V) float32: what the probes and the tests read."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.size(1), device=input_ids.device).expand_as(input_ids)
        if documents is None:
            documents = torch.zeros_like(input_ids)
        return self.lm_head(self.hidden(input_ids, position_ids, documents)).float()
