"""A block of GPT-J: attention and MLP side by side on one LayerNorm, rotary on the first dimensions of a head.

The layers are built from the config: `block_size` says how weights are stored, None means plain float ones
(pretraining, oracles). Source: Wang & Komatsuzaki 2021 (GPT-J-6B): rotary on the first `rotary_dim` dimensions of a
head in interleaved pairs, bias on the MLP only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model.gptj_config import GPTJ8bitConfig
from model.layers import Linear8bit


def rotary(position_ids: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """position_ids (B, T) -> sine and cosine (B, T, 1, dim / 2) float32 of position / 10000^(2i / dim)."""
    inverse = 10000.0 ** (torch.arange(0, dim, 2, device=position_ids.device, dtype=torch.float32) / -dim)
    angles = position_ids[..., None, None].float() * inverse
    return angles.sin(), angles.cos()


def rotate(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """x (B, T, H, D): turn the interleaved pairs of the first dim = 2 * sine.shape[-1] entries; float32 inside."""
    dim = 2 * sine.shape[-1]
    even, odd = x[..., 0:dim:2].float(), x[..., 1:dim:2].float()
    turned = torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), dim=-1)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, for `attn_implementation="eager"`: (B, H, T, D) three times -> (B, T, H, D), weights."""
    weights = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    weights = F.dropout(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2), weights


def linear_for(config: GPTJ8bitConfig, in_features: int, out_features: int, bias: bool) -> nn.Module:
    if config.block_size is None:
        return nn.Linear(in_features, out_features, bias=bias)
    return Linear8bit(in_features, out_features, bias, config.block_size)


class GPTJAttention(nn.Module):
    """Causal self-attention, no biases."""

    def __init__(self, config: GPTJ8bitConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        self.head_dim = config.n_embd // config.n_head
        self.scaling = self.head_dim**-0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            linear_for(config, config.n_embd, config.n_embd, bias=False) for _ in range(4)
        )

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        return self.out_proj(self.mix(x, turn, mask, cache, **kwargs))

    def mix(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        """The heads' outputs side by side, (B, T, n_embd): all but the last product."""
        batch, length, _ = x.shape
        heads = (batch, length, -1, self.head_dim)
        query = rotate(self.q_proj(x).view(heads), *turn).transpose(1, 2)  # (B, H, T, D)
        key = rotate(self.k_proj(x).view(heads), *turn).transpose(1, 2)
        value = self.v_proj(x).view(heads).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.config.attn_pdrop if self.training else 0.0
        out, _ = attend(self, query, key, value, mask, scaling=self.scaling, dropout=dropout, **kwargs)
        return out.reshape(batch, length, -1)


class GPTJMLP(nn.Module):
    """Two layers with the tanh form of GELU between."""

    def __init__(self, config: GPTJ8bitConfig) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.fc_in = linear_for(config, config.n_embd, inner, bias=True)
        self.fc_out = linear_for(config, inner, config.n_embd, bias=True)
        # "gelu_new" is the same formula in eight operations, of which training would keep four results as wide as 4 D.
        self.act = ACT2FN[{"gelu_new": "gelu_pytorch_tanh"}.get(config.activation_function, config.activation_function)]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_out(self.inner(x))

    def inner(self, x: Tensor) -> Tensor:
        """(B, T, n_inner): all but the last product."""
        return self.act(self.fc_in(x))


class GPTJBlock(GradientCheckpointingLayer):
    """x + attention(ln(x)) + mlp(ln(x))."""

    def __init__(self, config: GPTJ8bitConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPTJAttention(config, layer_idx)
        self.mlp = GPTJMLP(config)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> Tensor:
        mixed, inner = self.halves(x, turn, mask, cache, **kwargs)
        return x + self.dropout(self.attn.out_proj(mixed)) + self.dropout(self.mlp.fc_out(inner))

    def halves(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """What goes into the last product of attention and of the MLP. Training may recompute it: those products alone
        keep nothing (`training.tuning.checkpointing`)."""
        normed = self.ln_1(x)
        return self.attn.mix(normed, turn, mask, cache, **kwargs), self.mlp.inner(normed)
