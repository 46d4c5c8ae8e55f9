"""Sequence classification on the 8-bit body: one float `score` layer on the last real token of each row."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from model.gptj import GPTJ8bitModel, GPTJ8bitPreTrainedModel
from model.gptj_config import GPTJ8bitConfig


class GPTJ8bitForSequenceClassification(GPTJ8bitPreTrainedModel):
    """The body with a float `score` layer (num_labels, n_embd) on the last real token of each row."""

    def __init__(self, config: GPTJ8bitConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 2
        self.transformer = GPTJ8bitModel(config)
        self.score = nn.Linear(config.n_embd, self.num_labels, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """ids (B, T) -> logits (B, num_labels); labels (B,) integer classes, (B,) or (B, L) floats."""
        out = self.transformer(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, use_cache=False, **kwargs
        )
        hidden = out.last_hidden_state
        last = self._last_real(input_ids, attention_mask, hidden)
        pooled = hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
        logits = self.score(pooled.to(self.score.weight.dtype))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutputWithPast(loss=loss, logits=logits)

    def _last_real(self, input_ids: Tensor | None, attention_mask: Tensor | None, hidden: Tensor) -> Tensor:
        """(B,) index of the right-most token that is not padding, by the mask, else by pad_token_id."""
        batch, length = hidden.shape[:2]
        position = torch.arange(length, device=hidden.device)
        if attention_mask is not None:
            real = attention_mask.bool()
        elif input_ids is not None and self.config.pad_token_id is not None:
            real = input_ids != self.config.pad_token_id
        elif batch == 1:
            real = torch.ones(1, length, dtype=torch.bool, device=hidden.device)
        else:
            raise ValueError("rows of a batch need an attention_mask or a pad_token_id to tell where each one ends")
        return (position * real).argmax(-1)


AutoModelForSequenceClassification.register(GPTJ8bitConfig, GPTJ8bitForSequenceClassification)
