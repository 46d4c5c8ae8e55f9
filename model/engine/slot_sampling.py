"""Drawing the next token of every slot on the device: `engine.sampling` for all rows at once, the host not asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.engine.params import SamplingParams

COLDEST = 1e-6  # below it a temperature is zero: dividing by less could overflow on a device


class SlotSampling:
    """Each slot's parameters, in tensors that never move. The generator is the device's, so that seeds mean nothing."""

    @torch.inference_mode(False)  # what is made in inference mode could not be changed outside it
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

    def penalize(self, logits: Tensor) -> Tensor:
        """logits (S, V) float32 of the first S slots -> the same, those of ids that a slot has said penalized."""
        penalty, said = self.penalty[: len(logits)], self.said[: len(logits)]
        return torch.where(said, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def draw(self, logits: Tensor) -> Tensor:
        """Penalized logits (S, V) float32 of the first S slots -> ids (S,)."""
        shares, order = self.shares(logits)
        # The largest of p / Exp(1) is a draw from p; torch.multinomial would ask the device.
        chance = torch.empty_like(shares).exponential_().clamp_(min=1e-20)
        drawn = order.gather(-1, (shares / chance).argmax(-1, keepdim=True))[:, 0]
        return torch.where(self.temperature[: len(logits), 0] == 0.0, logits.argmax(-1), drawn)

    def shares(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Penalized logits (S, V) -> what each id is drawn by, falling (S, V), 0 where it is cut, and the ids (S, V).

        Order: temperature, top-k, min-p, top-p. A row's shares need not add up to 1; those of a slot whose temperature
        is 0 mean nothing.
        """
        temperature, top_k, top_p, min_p = (
            each[: len(logits)] for each in (self.temperature, self.top_k, self.top_p, self.min_p)
        )
        shifted = logits - logits.amax(-1, keepdim=True)  # keeps tiny temperatures finite
        scaled = shifted / temperature.masked_fill(temperature == 0.0, 1.0)
        ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
        lowest = ordered.gather(-1, top_k.clamp(max=ordered.shape[-1]) - 1)
        shares = ordered.masked_fill(ordered < lowest, float("-inf")).softmax(-1)
        shares = shares.masked_fill(shares < min_p * shares[:, :1], 0.0)
        before, whole = shares.cumsum(-1) - shares, shares.sum(-1, keepdim=True)
        beyond = (before >= top_p * whole) & (top_p < 1.0)  # at 1 a rounded sum would cut the last ones
        return shares.masked_fill(beyond, 0.0), order

    def note(self, tokens: Tensor, active: Tensor) -> None:
        """tokens (S,) have been said by those of the first S slots that are active (S,) bool."""
        said = self.said[: len(tokens)]
        said.scatter_(1, tokens[:, None], said.gather(1, tokens[:, None]) | active[:, None])
