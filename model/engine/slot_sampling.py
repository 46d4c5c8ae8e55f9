"""Drawing the next token of every slot on the device: `engine.sampling` for all rows at once, the host not asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.engine.params import SamplingParams

COLDEST = 1e-6  # below it a temperature is zero: dividing by less could overflow on a device


class SlotSampling:
    """Each slot's parameters, in tensors that never move. The generator is the device's, so that seeds mean nothing."""

    def __init__(self, slots: int, num_tokens: int, device: torch.device) -> None:
        self.temperature = torch.zeros(slots, 1, device=device)  # 0: the likeliest token
        self.top_p, self.min_p, self.penalty = torch.ones(3, slots, 1, device=device).unbind()
        self.top_k = torch.full((slots, 1), num_tokens, device=device)
        self.said = torch.zeros(slots, num_tokens, dtype=torch.bool, device=device)
        self._plain = [True] * slots

    def set(self, slot: int, params: SamplingParams, said: Sequence[int]) -> None:
        """`said`: what the reply has generated so far."""
        temperature = params.temperature if params.temperature >= COLDEST else 0.0
        self.temperature[slot], self.top_p[slot], self.min_p[slot] = temperature, params.top_p, params.min_p
        self.penalty[slot], self.top_k[slot] = params.repetition_penalty, params.top_k or self.said.shape[1]
        self.said[slot] = False
        self.said[slot, torch.tensor(list(said), dtype=torch.long, device=self.said.device)] = True
        self._plain[slot] = temperature == 0.0 and params.repetition_penalty == 1.0

    def is_plain(self, slots: Sequence[int]) -> bool:
        """Whether these take the likeliest token as it is."""
        return all(self._plain[slot] for slot in slots)

    def draw(self, logits: Tensor) -> Tensor:
        """logits (S, V) float32 -> ids (S,): penalty, temperature, top-k, min-p, top-p, draw."""
        penalized = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
        logits = torch.where(self.said, penalized, logits)
        greedy = self.temperature == 0.0
        shifted = logits - logits.amax(-1, keepdim=True)  # keeps tiny temperatures finite
        ordered, order = (shifted / self.temperature.masked_fill(greedy, 1.0)).sort(dim=-1, descending=True)
        lowest = ordered.gather(-1, self.top_k.clamp(max=ordered.shape[-1]) - 1)
        shares = ordered.masked_fill(ordered < lowest, float("-inf")).softmax(-1)
        shares = shares.masked_fill(shares < self.min_p * shares[:, :1], 0.0)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= self.top_p * shares.sum(-1, keepdim=True), 0.0)
        # The largest of p / Exp(1) is a draw from p; torch.multinomial would ask the device.
        chance = torch.empty_like(shares).exponential_().clamp_(min=1e-20)
        place = (shares / chance).argmax(-1, keepdim=True).masked_fill(greedy, 0)
        return order.gather(-1, place)[:, 0]

    def note(self, tokens: Tensor, active: Tensor) -> None:
        """tokens (S,) have been said by the slots that are active (S,) bool."""
        said = self.said.gather(1, tokens[:, None])
        self.said.scatter_(1, tokens[:, None], said | active[:, None])
