"""Decoding with nothing left to the host: fixed slots, positions and draws on the device, so that a step can be a CUDA
graph.

Always: the same arithmetic as `runner` (the tests hold the two together on the CPU), for the bare model. Keys and
values are copies of a conversation's, in slots that never move; a slot that stands idle is computed along and changes
nothing but its own place. Not in the engine's way yet: `engine.batch` decodes by `runner`, which covers adapters,
prompts and seeds too; `benchmarks/gpu.py` measures what this would bring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from model.engine.cache import KeyValues
from model.engine.params import SamplingParams
from model.engine.runner import Runner
from model.gptj import rotary, rotate

SPAN = 256  # attention looks at a multiple of so many places: a graph for each


class StaticDecode:
    """One token for each of `slots` conversations at a time, of up to `context` tokens.

    compiled: the arithmetic between the products goes through torch.compile, one layer compiled for all.
    """

    def __init__(self, runner: Runner, slots: int, context: int, *, compiled: bool = False) -> None:
        layout = runner.layout
        self.runner, self.context = runner, min(context, layout.context)
        shape = (layout.n_layer, 2, slots, layout.n_head, self.context, layout.head_dim)
        self.pool = torch.zeros(shape, dtype=layout.dtype, device=layout.device)
        self.tokens = torch.zeros(slots, dtype=torch.long, device=layout.device)  # to be read next
        self.places = torch.zeros_like(self.tokens)  # where they stand
        self.temperature = torch.zeros(slots, device=layout.device)  # 0: the likeliest token
        self.top_p = torch.ones(slots, device=layout.device)
        self.draws = False  # whether any slot has a temperature
        self._every = torch.arange(slots, device=layout.device)
        self._ends = [0] * slots  # `places`, known without asking the device
        sine, cosine = rotary(torch.arange(self.context, device=layout.device)[None], runner.rotary_dim)
        self._sine, self._cosine = sine[0], cosine[0]  # (context, 1, R / 2)
        self._layer: Callable[..., Tensor] = torch.compile(self._one_layer) if compiled else self._one_layer
        self._graphs: dict[tuple[int, bool], Any] = {}

    def load(self, slot: int, kv: KeyValues, token: int, params: SamplingParams | None = None) -> None:
        """Take in what a conversation has read, and the token that follows it.

        params: temperature and top_p count, the generator is the device's. Raises ValueError for what a slot cannot do.
        """
        params = params or SamplingParams(temperature=0.0)
        length = len(kv.ids)
        if kv.adapter is not None or params.seed is not None or params.top_k or params.min_p:
            raise ValueError("a slot takes the bare model, no seed, no top_k and no min_p")
        if params.repetition_penalty != 1.0 or length >= self.context:
            raise ValueError(f"a slot takes no repetition penalty and less than {self.context} tokens")
        self.pool[:, :, slot, :, :length] = kv.buffer[:, :, :length].transpose(2, 3)
        self.tokens[slot], self.places[slot], self._ends[slot] = token, length, length
        self.temperature[slot], self.top_p[slot] = params.temperature, params.top_p
        self.draws = bool((self.temperature > 0).any())

    @property
    def span(self) -> int:
        """How many places the next step looks at."""
        return min(self.context, (max(self._ends) // SPAN + 1) * SPAN)

    @torch.no_grad()
    def run(self) -> Tensor:
        """Every slot's next token, (slots,), on the device; a slot that is full stays at its last place."""
        if self.tokens.is_cuda:
            self._graph(self.span, self.draws).replay()
        else:
            self.step(self.span, self.draws)
        self._ends = [min(end + 1, self.context - 1) for end in self._ends]
        return self.tokens

    def step(self, span: int, draws: bool) -> None:
        """One pass over all slots; every shape and address is the same each time, and nothing asks the device."""
        runner, body = self.runner, self.runner.model.transformer
        turn = self._sine[self.places], self._cosine[self.places]  # (S, 1, R / 2)
        seen = torch.arange(span, device=self.places.device) <= self.places[:, None]
        unseen = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))[:, None, None]
        x = body.wte(self.tokens)  # (S, n_embd)
        for layer, block in enumerate(body.h):
            x = self._layer(block, x, turn, unseen, self.pool[layer])
        logits = runner.model.lm_head(body.ln_f(x))[:, : runner.num_tokens].float()
        self.tokens.copy_(self._drawn(logits) if draws else logits.argmax(-1))
        self.places.add_(1).clamp_(max=self.context - 1)

    def _one_layer(self, block: Any, x: Tensor, turn: tuple[Tensor, Tensor], unseen: Tensor, stored: Tensor) -> Tensor:
        """stored (2, S, H, context, D), written at each slot's place."""
        heads, attn = (-1, 1, self.runner.n_head, self.runner.head_dim), block.attn
        normed = block.ln_1(x)
        query_key = torch.cat((attn.q_proj(normed).view(heads), attn.k_proj(normed).view(heads)), dim=2)
        query, key = (
            rotate(query_key, *(part[:, None] for part in turn)).transpose(1, 2).chunk(2, dim=1)
        )  # (S, H, 1, D)
        stored[0][self._every, :, self.places] = key[:, :, 0]
        stored[1][self._every, :, self.places] = attn.v_proj(normed).view(heads)[:, 0]
        keys, values = stored[..., : unseen.shape[-1], :]
        weights = (query @ keys.transpose(-1, -2)).float() * attn.scaling + unseen  # (S, H, 1, span)
        mixed = weights.softmax(dim=-1).to(values.dtype) @ values
        return x + attn.out_proj(mixed.flatten(1)) + block.mlp(normed)

    def _drawn(self, logits: Tensor) -> Tensor:
        """logits (S, V) float32 -> ids (S,): temperature, then the fewest likeliest that reach top_p, then a draw."""
        greedy = self.temperature == 0
        scaled = logits / self.temperature.masked_fill(greedy, 1.0)[:, None]
        ordered, order = scaled.softmax(-1).sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= self.top_p[:, None]
        beyond[:, 0] = False
        # The largest of p / Exp(1) is a draw from p; torch.multinomial would ask the device.
        chance = torch.empty_like(ordered).exponential_().clamp_(min=1e-20)
        place = (ordered.masked_fill(beyond, 0.0) / chance).argmax(-1, keepdim=True)
        return torch.where(greedy, logits.argmax(-1), order.gather(-1, place)[:, 0])

    def _graph(self, span: int, draws: bool) -> Any:
        """The step as a CUDA graph, captured the first time. Only reached on CUDA: not tested without a device.

        Warming up and capturing read and write the slots, so that tokens and places are put back; what was written to
        the keys and values is written again by the step that follows.
        """
        if (found := self._graphs.get((span, draws))) is None:
            before = self.tokens.clone(), self.places.clone()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.step(span, draws)
                    self._put_back(before)
            torch.cuda.current_stream().wait_stream(stream)
            found = torch.cuda.CUDAGraph()
            with torch.cuda.graph(found, capture_error_mode="thread_local"):
                self.step(span, draws)
            self._put_back(before)
            self._graphs[span, draws] = found
        return found

    def _put_back(self, before: Sequence[Tensor]) -> None:
        self.tokens.copy_(before[0])
        self.places.copy_(before[1])
