"""GPT-J with scaled-dot-product attention and 8-bit weights, under Hugging Face's parameter names.

Its own `model_type`, because transformers' GPT-J would load the codes as float weights with only a warning. The layers
are built from the config: `block_size` says how weights are stored, None means plain float ones (pretraining, oracles).
Source: Wang & Komatsuzaki 2021 (GPT-J-6B): rotary on the first `rotary_dim` dimensions of a head in interleaved pairs,
attention and MLP side by side on one LayerNorm, bias on MLP and head only, untied head.
"""

from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, GPTJConfig
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from model.layers import Embedding8bit, Linear8bit


@strict
class GPTJ8bitConfig(GPTJConfig):
    r"""
    block_size (`int`, *optional*, defaults to 4096): values that share one scale; None means plain float weights.
    num_tokens (`int`, *optional*): ids from here on are padding rows whose logits are masked; None means vocab_size.
    prompt_format (`str`, *optional*, defaults to `"plain"`): how a conversation is written for this checkpoint.
    """

    model_type = "tertulia_gptj"

    block_size: int | None = 4096
    num_tokens: int | None = None
    prompt_format: str = "plain"


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


def _linear(config: GPTJ8bitConfig, in_features: int, out_features: int, bias: bool) -> nn.Module:
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
            _linear(config, config.n_embd, config.n_embd, bias=False) for _ in range(4)
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
        self.fc_in = _linear(config, config.n_embd, inner, bias=True)
        self.fc_out = _linear(config, inner, config.n_embd, bias=True)
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


class GPTJ8bitPreTrainedModel(PreTrainedModel):
    """What every head shares: loading and saving in the native format, strictly."""

    config_class = GPTJ8bitConfig
    config: GPTJ8bitConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GPTJBlock"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @classmethod
    def from_pretrained(cls, name_or_dir: str | Path, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load a native checkpoint: a folder, or a name that `model.hub` knows. See `checkpoint.from_pretrained`."""
        from model.pretrained import from_pretrained

        return from_pretrained(cls, name_or_dir, *args, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write a native checkpoint, atomically. See `checkpoint.save`."""
        from model.pretrained import save_pretrained

        save_pretrained(self, save_directory, **kwargs)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Refused: the rows of an 8-bit table are fixed, and GPT-J has spare ones (`num_tokens`)."""
        if self.config.block_size is not None:
            raise ValueError("an 8-bit embedding table cannot be resized; ids from num_tokens on are spare rows")
        return super().resize_token_embeddings(*args, **kwargs)


class GPTJ8bitModel(GPTJ8bitPreTrainedModel):
    """Embedding, blocks, final LayerNorm: ids -> hidden states."""

    def __init__(self, config: GPTJ8bitConfig) -> None:
        super().__init__(config)
        self.wte: nn.Module
        if config.block_size is None:
            self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        else:
            self.wte = Embedding8bit(config.vocab_size, config.n_embd, config.block_size)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPTJBlock(config, i) for i in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.wte = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """input_ids (B, T) or inputs_embeds (B, T, D) -> last_hidden_state (B, T, D).

        attention_mask (B, past + T) marks padding, on either side; positions are counted over its ones. Examples packed
        into one row are told apart by `position_ids` that restart (with no mask and no cache).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if self.gradient_checkpointing and self.training:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = self._positions(x, attention_mask, past_key_values)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        turn = rotary(position_ids, self.config.rotary_dim or self.config.n_embd // self.config.n_head)
        x = self.drop(x)
        for block in self.h:
            x = block(x, turn, mask, past_key_values, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(x), past_key_values=past_key_values)

    @staticmethod
    def _positions(x: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> Tensor:
        """(B or 1, T): counted over the attention mask when one is given, so that left padding shifts nothing."""
        length = x.shape[1]
        if attention_mask is not None and attention_mask.dim() == 2:
            return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        past = cache.get_seq_length() if cache is not None else 0
        return torch.arange(past, past + length, device=x.device)[None]


class GPTJ8bitForCausalLM(GPTJ8bitPreTrainedModel, GenerationMixin):
    """The language model."""

    def __init__(self, config: GPTJ8bitConfig) -> None:
        super().__init__(config)
        self.transformer = GPTJ8bitModel(config)
        self.lm_head = _linear(config, config.n_embd, config.vocab_size, bias=True)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As `GPTJ8bitModel`, then logits (B, T or logits_to_keep, V); labels (B, T), -100 for no loss, shift here."""
        out = self.transformer(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, **kwargs
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, kept])
        if self.config.num_tokens is not None and self.config.num_tokens < self.config.vocab_size:
            spare = torch.arange(self.config.vocab_size, device=logits.device) >= self.config.num_tokens
            logits = logits.masked_fill(spare, float("-inf"))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values)


@torch.inference_mode()
def generate_naive(model: GPTJ8bitForCausalLM, ids: list[int], max_new_tokens: int) -> list[int]:
    """Greedy continuation, the whole sequence computed again for every token: the oracle of the engine."""
    ids = list(ids)
    for _ in range(max_new_tokens):
        logits = model(torch.tensor([ids], device=model.device), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids


AutoConfig.register(GPTJ8bitConfig.model_type, GPTJ8bitConfig)
AutoModelForCausalLM.register(GPTJ8bitConfig, GPTJ8bitForCausalLM)
