"""One pass of the model over new tokens of several conversations at once, lean enough for one token of one.

The same arithmetic as `model.gptj` (its oracle): rows of all conversations go through each weight together, so the
weights are read once for all of them; attention and adapters are each conversation's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model.engine.adapters import Adapter
from model.engine.cache import KeyValues, Layout
from model.engine.layer import Adapted, Layer
from model.engine.products import attention_at_once, blocks_at_once, prompt_attention
from model.engine.rows import TorchRows, rows_for
from model.gptj import GPTJ8bitForCausalLM
from model.gptj_block import rotary

if TYPE_CHECKING:
    from model.kernels.cpu_passes import Attention

MANY = 32  # new tokens: from so many on it pays to ask for their memory at once, and to lay out all keys for them


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


class LayerOutputs(NamedTuple):
    """What a layer's products gave: the next layer may write over it."""

    read: list[Tensor]  # query, key, value (N, n_embd), the MLP's inner rows (N, n_inner)
    attended: list[Tensor]  # (N, n_embd)
    told: list[Tensor]  # (N, n_embd)


Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer; query, key, value (N, n_embd) -> (N, n_embd)


@dataclass(frozen=True)
class _Rows:
    """Which rows of a pass are a segment's, and what its attention may see of the keys (neither: all of them)."""

    segment: Segment
    rows: slice
    mask: Tensor | None = None
    is_causal: bool = False  # every row those up to its own, of as many keys as rows
    at_once: bool = False  # one call does its attention, masked as it must be


@dataclass(frozen=True)
class _Pass:
    """All rows of a pass, segments of one id first."""

    parts: list[_Rows]
    ids: Tensor  # (N,)
    turns: Tensor  # (N, 1, R / 2) complex
    num_single: int
    single: Attention | None  # the attention of those, where one call does it
    wanted: list[_Rows]  # segments that want logits, in the order they came

    @property
    def adapted(self) -> list[Adapted]:
        return [Adapted(adapter, part.rows) for part in self.parts if (adapter := part.segment.adapter)]


class Runner:
    """Holds the model and what every pass needs of it; weights moved or loaded anew want another runner."""

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
        self.attention = attention_at_once(self.model.transformer.ln_f.weight)
        self.prompt_attention = prompt_attention(self.model.transformer.ln_f.weight)
        blocks = self.model.transformer.h
        self.rows = rows_for(
            [*(block.ln_1 for block in blocks), self.model.transformer.ln_f], config.activation_function
        )
        self.layers = [Layer(f"transformer.h.{i}", block) for i, block in enumerate(blocks)]
        parts = [layer.parts for layer in self.layers]
        self.blocks = None if isinstance(self.rows, TorchRows) else blocks_at_once(parts)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Writes the segments' ids into their buffers -> logits (number that want them, num_tokens)."""
        this = self._lay_out(segments)
        body = self.model.transformer
        x = self._through_blocks(body.wte(this.ids), this)  # (N, n_embd)
        for segment in segments:
            segment.kv.advance(segment.ids)
        if not this.wanted:
            return x.new_empty(0, self.num_tokens)
        rows = [part.rows.stop - 1 for part in this.wanted]
        last = x if rows == list(range(len(x))) else x[torch.tensor(rows, device=x.device)]
        segments_of = [part.segment for part in this.wanted]
        asking = [Adapted(each.adapter, slice(i, i + 1)) for i, each in enumerate(segments_of) if each.adapter]
        return self.logits(last, asking)

    def logits(self, x: Tensor, adapted: Sequence[Adapted]) -> Tensor:
        """x (N, n_embd) after all blocks -> (N, num_tokens)."""
        normed = self._norm(self.model.transformer.ln_f, "transformer.ln_f", x, adapted)
        logits: Tensor = self.model.lm_head(normed)
        return logits[:, : self.num_tokens]

    def through_layer(
        self, number: int, x: Tensor, attend: Attend, adapted: Sequence[Adapted], before: LayerOutputs | None = None
    ) -> tuple[Tensor, LayerOutputs]:
        """x (N, n_embd) -> the same after the layer; `before` are outputs of the layer before, to be written over."""
        layer, (read, attended, told) = self.layers[number], before or (None, None, None)
        read = layer.read(self._norm(layer.ln_1, layer.norm_name, x, adapted), adapted, read, self.rows)
        query, key, value, inner = read
        attended = layer.attend(attend(number, query, key, value), adapted, attended)
        told = layer.tell(inner, adapted, told)
        return self.rows.add(x, attended[0], told[0]), LayerOutputs(read, attended, told)

    def _through_blocks(self, x: Tensor, this: _Pass) -> Tensor:
        """x (N, n_embd) -> (N, n_embd): in one call where all rows are single tokens without an adapter."""
        adapted = this.adapted
        if self.blocks and this.single and this.num_single == len(x) and not adapted and self.blocks.takes(len(x)):
            return self.blocks(x, this.single)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return self._attention(layer, query, key, value, this)

        outputs = None
        for number in range(len(self.layers)):
            x, outputs = self.through_layer(number, x, attend, adapted, outputs)
        return x

    def _lay_out(self, segments: Sequence[Segment]) -> _Pass:
        device = self.model.device
        parts: dict[int, _Rows] = {}
        places: list[int] = []
        order = sorted(range(len(segments)), key=lambda i: len(segments[i].ids) > 1)
        for i in order:
            segment = segments[i]
            start, past, length = len(places), len(segment.kv.ids), len(segment.ids)
            places += range(past, past + length)
            if length >= MANY:
                self.rows.expect(segment.kv.buffer, max(past, segment.kv.highest), past + length)
            parts[i] = self._rows_of(segment, start)
        ids = torch.tensor([token for i in order for token in segments[i].ids], device=device)
        turns = self.turns[torch.tensor(places, device=device)]
        singles = [segments[i].kv for i in order if len(segments[i].ids) == 1]
        attention = None
        if self.attention is not None and singles and all(kv.buffer.is_contiguous() for kv in singles):
            past_of = [len(kv.ids) for kv in singles]
            attention = self.attention([kv.buffer for kv in singles], past_of, turns[: len(singles), 0])
        wanted = [parts[i] for i, segment in enumerate(segments) if segment.wants_logits]
        return _Pass([parts[i] for i in order], ids, turns, len(singles), attention, wanted)

    def _rows_of(self, segment: Segment, start: int) -> _Rows:
        past, length = len(segment.kv.ids), len(segment.ids)
        rows = slice(start, start + length)
        if self.prompt_attention and length >= MANY and self.prompt_attention.serves(segment.kv.buffer):
            return _Rows(segment, rows, at_once=True)
        mask = None
        if length > 1 and past:
            mask = torch.ones(length, past + length, dtype=torch.bool, device=self.model.device).tril(past)
        return _Rows(segment, rows, mask, is_causal=length > 1 and not past)

    def _attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor, this: _Pass) -> Tensor:
        """query, key, value (N, n_embd) -> what the heads mix, (N, n_embd)."""
        query, key, value = (x.view(-1, self.n_head, self.head_dim) for x in (query, key, value))
        done = 0 if this.single is None else this.num_single
        if this.single is not None and done == len(value):
            return this.single(layer, query, key, value).flatten(1)
        out = torch.empty_like(value)
        if this.single is not None:
            out[:done] = this.single(layer, query[:done], key[:done], value[:done])
        for part in this.parts[done:]:
            turns, rows, kv = this.turns[part.rows], part.rows, part.segment.kv
            if part.at_once and self.prompt_attention is not None:
                new = query[rows], key[rows], value[rows]
                self.prompt_attention(kv.buffer[layer], len(kv.ids), *new, turns, out[rows])
                continue
            turned = self.rows.turn(key[rows], turns)
            keys, values = kv.write(layer, turned, value[rows])
            asked = self.rows.turn(query[rows], turns).transpose(0, 1)  # (H, n, D)
            mixed = F.scaled_dot_product_attention(
                asked[None], keys[None], values[None], part.mask, is_causal=part.is_causal
            )
            out[rows] = mixed[0].transpose(0, 1)
        return out.flatten(1)

    def _norm(self, module: Any, name: str, x: Tensor, adapted: Sequence[Adapted]) -> Tensor:
        y = self.rows.norm(module, x)
        for adapter, rows in adapted:
            if adapter.norms:
                y[rows] = adapter.norm(x[rows], name, module.eps)
        return y
