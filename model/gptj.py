"""GPT-J with scaled-dot-product attention and 8-bit weights, under Hugging Face's parameter names.

Source: Wang & Komatsuzaki 2021 (GPT-J-6B): blocks (`model.gptj_block`), a LayerNorm, an untied head with a bias.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from model.gptj_block import GPTJBlock, linear_for, rotary
from model.gptj_config import GPTJ8bitConfig
from model.layers import Embedding8bit


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
        self.lm_head = linear_for(config, config.n_embd, config.vocab_size, bias=True)
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


AutoModelForCausalLM.register(GPTJ8bitConfig, GPTJ8bitForCausalLM)
