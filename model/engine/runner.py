"""One pass of the model over new tokens of several conversations at once, lean enough for one token of one.

The same arithmetic as `model.gptj` (its oracle): rows of all conversations go through each weight together, so the
weights are read once for all of them; attention and adapters are each conversation's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model.engine.adapters import Adapter
from model.engine.cache import KeyValues, Layout
from model.gptj import GPTJ8bitForCausalLM, rotary


@dataclass
class Segment:
    """New ids of one conversation, to be written behind what its buffer holds."""

    kv: KeyValues
    ids: Sequence[int]
    wants_logits: bool = True

    @property
    def adapter(self) -> Adapter | None:
        adapter = self.kv.adapter
        assert adapter is None or isinstance(adapter, Adapter)
        return adapter


@dataclass(frozen=True)
class _Rows:
    """Which rows of a pass are a segment's, and what its attention may see of the keys (None: all of them)."""

    segment: Segment
    rows: slice
    mask: Tensor | None


class Runner:
    """Holds the model and what every pass needs of it."""

    def __init__(self, model: GPTJ8bitForCausalLM) -> None:
        config: Any = model.config
        self.model = cast(Any, model)  # torch types every attribute of a module as a tensor or a module
        self.n_head, self.head_dim = config.n_head, config.n_embd // config.n_head
        self.rotary_dim = config.rotary_dim or self.head_dim
        self.num_tokens = config.num_tokens or config.vocab_size
        dtype = model.transformer.ln_f.weight.dtype
        self.layout = Layout(config.n_layer, self.n_head, self.head_dim, config.n_positions, dtype, model.device)
        sine, cosine = rotary(torch.arange(config.n_positions, device=model.device)[None], self.rotary_dim)
        self.turns = torch.complex(cosine, sine)[0]  # (n_positions, 1, rotary_dim / 2)
        self.act = self.model.transformer.h[0].mlp.act
        self.names = [f"transformer.h.{layer}" for layer in range(config.n_layer)]

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Writes the segments' ids into their buffers -> logits (number that want them, num_tokens)."""
        batch, places, wanted = self._lay_out(segments)
        device = self.model.device
        ids = torch.tensor([token for segment in segments for token in segment.ids], device=device)
        turns = self.turns[torch.tensor(places, device=device)]  # (N, 1, R / 2)
        body = self.model.transformer
        x = body.wte(ids)  # (N, n_embd)
        for layer, block in enumerate(body.h):
            normed = self._norm(block.ln_1, f"{self.names[layer]}.ln_1", x, batch)
            x = (
                x
                + self._attention(block.attn, normed, turns, batch, layer)
                + self._mlp(block.mlp, normed, batch, layer)
            )
        for segment in segments:
            segment.kv.advance(segment.ids)
        if not wanted:
            return x.new_empty(0, self.num_tokens)
        last = x if len(wanted) == len(x) else x[torch.tensor(wanted, device=device)]
        asking = [part for part in batch if part.segment.wants_logits]
        ends = [replace(part, rows=slice(i, i + 1)) for i, part in enumerate(asking)]
        last = self._norm(body.ln_f, "transformer.ln_f", last, ends)
        logits: Tensor = self.model.lm_head(last)
        return logits[:, : self.num_tokens]

    def _lay_out(self, segments: Sequence[Segment]) -> tuple[list[_Rows], list[int], list[int]]:
        """-> the segments' rows, the position of every row, the rows whose logits are wanted."""
        batch: list[_Rows] = []
        places: list[int] = []
        wanted: list[int] = []
        for segment in segments:
            start, past, length = len(places), len(segment.kv.ids), len(segment.ids)
            places += range(past, past + length)
            mask = None
            if length > 1:
                seen = torch.ones(length, past + length, dtype=torch.bool, device=self.model.device)
                mask = seen.tril(past)
            batch.append(_Rows(segment, slice(start, start + length), mask))
            if segment.wants_logits:
                wanted.append(start + length - 1)
        return batch, places, wanted

    def _norm(self, module: Any, name: str, x: Tensor, batch: list[_Rows]) -> Tensor:
        y: Tensor = module(x)
        for part in batch:
            if (adapter := part.segment.adapter) and adapter.norms:
                y[part.rows] = adapter.norm(x[part.rows], name, module.eps)
        return y

    def _linear(self, module: Any, name: str, x: Tensor, batch: list[_Rows]) -> Tensor:
        y: Tensor = module(x)
        for part in batch:
            if adapter := part.segment.adapter:
                adapter.add(y[part.rows], x[part.rows], name)
        return y

    def _attention(self, attn: Any, x: Tensor, turns: Tensor, batch: list[_Rows], layer: int) -> Tensor:
        name = f"{self.names[layer]}.attn"
        heads = (-1, self.n_head, self.head_dim)
        query = self._rotate(self._linear(attn.q_proj, f"{name}.q_proj", x, batch).view(heads), turns)
        key = self._rotate(self._linear(attn.k_proj, f"{name}.k_proj", x, batch).view(heads), turns)
        value = self._linear(attn.v_proj, f"{name}.v_proj", x, batch).view(heads)
        out = torch.empty_like(value)  # (N, H, D)
        for part in batch:
            keys, values = part.segment.kv.write(layer, key[part.rows], value[part.rows])
            asked = query[part.rows].transpose(0, 1)  # (H, n, D)
            mixed = F.scaled_dot_product_attention(asked[None], keys[None], values[None], part.mask)
            out[part.rows] = mixed[0].transpose(0, 1)
        return self._linear(attn.out_proj, f"{name}.out_proj", out.flatten(1), batch)

    def _mlp(self, mlp: Any, x: Tensor, batch: list[_Rows], layer: int) -> Tensor:
        name = f"{self.names[layer]}.mlp"
        inner = self.act(self._linear(mlp.fc_in, f"{name}.fc_in", x, batch))
        return self._linear(mlp.fc_out, f"{name}.fc_out", inner, batch)

    def _rotate(self, x: Tensor, turns: Tensor) -> Tensor:
        """x (N, H, D): the interleaved pairs of the first rotary_dim entries turned, as complex numbers in float32."""
        pairs = x[..., : self.rotary_dim].float().unflatten(-1, (-1, 2)).contiguous()
        turned: Tensor = torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2)
        if self.rotary_dim == self.head_dim:
            return turned.to(x.dtype)
        return torch.cat((turned.to(x.dtype), x[..., self.rotary_dim :]), dim=-1)
