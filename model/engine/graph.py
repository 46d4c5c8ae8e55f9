"""Decoding with nothing left to the host: slots, positions and draws on the device, so that a step is a CUDA graph.

Always: the arithmetic of `runner`, of which it takes everything but attention. A step computes all slots; those that
are not asked for write where nobody reads and stay as they are. Without CUDA the same step runs operation by operation,
which is how the tests hold it against the naive oracle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from model.engine.adapters import Adapter
from model.engine.params import SamplingParams
from model.engine.runner import Adapted, Runner
from model.engine.slot_sampling import SlotSampling
from model.engine.slots import Slots
from model.gptj import rotary, rotate

SPAN = 256  # attention looks at a multiple of so many places: a graph for each
MAX_GRAPHS = 32

Kind = tuple[int, bool, Adapter | None]  # how many places, whether tokens are drawn, the adapter of all slots


class SlotDecode:
    """One token at a time for each of the slots that are asked for.

    compiled: attention goes through torch.compile, compiled once for all layers.
    """

    def __init__(self, runner: Runner, slots: Slots, *, compiled: bool = False) -> None:
        layout, device = slots.layout, slots.layout.device
        self.runner, self.slots = runner, slots
        self.tokens = torch.zeros(slots.count, dtype=torch.long, device=device)  # to be read next
        self.places = torch.zeros_like(self.tokens)  # where they stand
        self.told = torch.zeros_like(self.tokens)  # what the last step gave, -1 where the logits were not finite
        self.active = torch.zeros(slots.count, dtype=torch.bool, device=device)
        self.sampling = SlotSampling(slots.count, runner.num_tokens, device)
        self._every = torch.arange(slots.count, device=device)
        self._ends = [0] * slots.count  # `places`, known without asking the device
        self._asked: list[int] = []  # `active`, the same way
        sine, cosine = rotary(torch.arange(layout.context + 1, device=device)[None], runner.rotary_dim)
        self._sine, self._cosine = sine[0, :, None], cosine[0, :, None]  # (context + 1, 1, 1, R / 2)
        self._attend: Callable[..., Tensor] = torch.compile(attend) if compiled else attend
        self._graphs: OrderedDict[Kind, Any] = OrderedDict()

    def join(self, slot: int, place: int, token: int, params: SamplingParams, said: Sequence[int]) -> None:
        """Slot `slot` holds `place` ids and reads `token` next; `said` are the ids of its reply so far."""
        if params.seed is not None:
            raise ValueError("a slot draws by the device's generator: it takes no seed")
        if not 0 <= place < self.slots.layout.context:
            raise ValueError(f"place is {place}: expected 0 to {self.slots.layout.context - 1}")
        self.tokens[slot], self.places[slot], self._ends[slot] = token, place, place
        self.sampling.set(slot, params, said)

    @torch.inference_mode()
    def run(self, asked: Sequence[int], adapter: Adapter | None = None) -> Tensor:
        """One step of the slots `asked`, all under `adapter` -> `told` (slots,), on the device; the rest is stale."""
        if list(asked) != self._asked:
            self._asked = list(asked)
            self.active.copy_(torch.tensor([slot in self._asked for slot in range(self.slots.count)]))
        longest = max(self._ends[slot] for slot in asked) + 1
        span = min(self.slots.layout.context, -(-longest // SPAN) * SPAN)
        kind = span, not self.sampling.is_plain(asked), adapter
        if self.tokens.is_cuda:
            self._graph(kind).replay()
        else:
            self.step(kind)
        for slot in asked:
            self._ends[slot] += 1
        return self.told

    def step(self, kind: Kind) -> None:
        """One pass over all slots; every shape and address is the same each time, and nothing asks the device."""
        span, draws, adapter = kind
        runner = self.runner
        places = torch.where(self.active, self.places, self.slots.nowhere)
        turn = self._sine[places], self._cosine[places]  # (S, 1, 1, R / 2)
        seen = torch.arange(span, device=places.device) <= places[:, None]
        unseen = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))[:, None, None]

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            heads = (-1, 1, runner.n_head, runner.head_dim)
            at = self._every, places
            return self._attend(query.view(heads), key.view(heads), value.view(heads), turn, unseen, pool[layer], at)

        pool, adapted = self.slots.pool, [] if adapter is None else [Adapted(adapter, slice(None))]
        x = runner.model.transformer.wte(self.tokens)  # (S, n_embd)
        outputs = None
        for layer in range(len(runner.layers)):
            x, outputs = runner.through_layer(layer, x, attention, adapted, outputs)
        logits = runner.logits(x, adapted).float()
        drawn = self.sampling.draw(logits) if draws else logits.argmax(-1)
        self.told.copy_(torch.where(logits.amax(-1).isfinite(), drawn, -1))  # NaN wins a max
        self.sampling.note(drawn, self.active)
        self.tokens.copy_(torch.where(self.active, drawn, self.tokens))
        self.places.add_(self.active)

    def _graph(self, kind: Kind) -> Any:
        """The step as a CUDA graph, captured the first time. Only reached on CUDA: not tested without a device.

        Warming up and capturing run the step, so that what it changes is put back; keys and values that it wrote are
        written again by the step that follows.
        """
        if (found := self._graphs.get(kind)) is None:
            changed = self.tokens, self.places, self.sampling.said
            before = [tensor.clone() for tensor in changed]

            def put_back() -> None:
                for tensor, values in zip(changed, before, strict=True):
                    tensor.copy_(values)

            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.step(kind)
                    put_back()
            torch.cuda.current_stream().wait_stream(stream)
            found = torch.cuda.CUDAGraph()
            with torch.cuda.graph(found, capture_error_mode="thread_local"):
                self.step(kind)
            put_back()
            self._graphs[kind] = found
            if len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(kind)
        return found


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    turn: tuple[Tensor, Tensor],
    unseen: Tensor,
    stored: Tensor,
    at: tuple[Tensor, Tensor],
) -> Tensor:
    """query, key, value (S, 1, H, D); stored (2, S, H, context + 1, D), written at each slot's place -> (S, H * D).

    unseen (S, 1, 1, span) float32, -inf where a slot may not look; at: slots and their places, each (S,).
    """
    (every, places), size = at, query.shape[2]
    query, key = rotate(torch.cat((query, key), dim=2), *turn).transpose(1, 2).split(size, dim=1)  # (S, H, 1, D)
    stored[0][every, :, places] = key[:, :, 0]
    stored[1][every, :, places] = value[:, 0]
    keys, values = stored[..., : unseen.shape[-1], :]
    weights = (query @ keys.transpose(-1, -2)).float() * query.shape[-1] ** -0.5 + unseen  # (S, H, 1, span)
    mixed = weights.softmax(dim=-1).to(values.dtype) @ values
    return mixed.flatten(1)
