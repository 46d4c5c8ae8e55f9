"""Decoding with nothing left to the host: slots, positions and draws on the device, so that a step is a CUDA graph.

Always: the arithmetic of `runner`, of which it takes everything but attention. A step computes the slots up to the
highest that is asked for; those that are not asked for write where nobody reads and stay as they are. Without CUDA the
same step runs operation by operation, which is how the tests hold it against the naive oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.engine.adapters import Adapter
from model.engine.capture import Graphs, Kind
from model.engine.layer import Adapted
from model.engine.params import SamplingParams
from model.engine.runner import Runner
from model.engine.slot_sampling import SlotSampling
from model.engine.slots import Slots
from model.gptj_block import rotary, rotate

SPAN = 256  # attention looks at so many places, or twice, four times ... as many: a graph for each


class SlotDecode:
    """One token at a time for each of the slots that are asked for.

    compiled: attention goes through torch.compile, compiled once for all layers.
    """

    @torch.inference_mode(False)  # what is made in inference mode could not be changed outside it
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
        changed = self.tokens, self.places, self.sampling.said
        self.graphs = Graphs(changed) if device.type == "cuda" else None

    def join(self, slot: int, place: int, token: int, params: SamplingParams, said: Sequence[int]) -> None:
        """Slot `slot` holds `place` ids and reads `token` next; `said` are the ids of its reply so far."""
        if params.seed is not None:
            raise ValueError("a slot draws by the device's generator: it takes no seed")
        if not 0 <= place < self.slots.layout.context:
            raise ValueError(f"place is {place}: expected 0 to {self.slots.layout.context - 1}")
        self.slots.clear(slot, place)
        self.tokens[slot], self.places[slot], self._ends[slot] = token, place, place
        self.sampling.set(slot, params, said)

    @torch.inference_mode()
    def run(self, asked: Sequence[int], adapter: Adapter | None = None) -> Tensor:
        """One step of the slots `asked`, all under `adapter` -> their tokens in `told` (slots,), on the device.

        What `told` has for other slots means nothing.
        """
        if list(asked) != self._asked:
            self._asked = list(asked)
            self.active.copy_(torch.tensor([slot in self._asked for slot in range(self.slots.count)]))
        longest, context = max(self._ends[slot] for slot in asked) + 1, self.slots.layout.context
        assert longest <= context, f"a slot is full: it holds {longest - 1} of {context} places"
        count, span = doubled(max(asked) + 1, 1, self.slots.count), doubled(longest, SPAN, context)
        kind = Kind(count, span, not self.sampling.is_plain(asked), adapter)
        if self.graphs is not None:
            self.graphs.replay(kind, self.step)
        else:
            self.step(kind)
        for slot in asked:
            self._ends[slot] += 1
        return self.told

    def step(self, kind: Kind) -> None:
        """One pass over the first slots; shapes and addresses are the same each time, and nothing asks the device."""
        count, span, draws, adapter = kind
        runner, active, every = self.runner, self.active[:count], self._every[:count]
        places = torch.where(active, self.places[:count], self.slots.nowhere)
        turn = self._sine[places], self._cosine[places]  # (S, 1, 1, R / 2)
        seen = torch.arange(span, device=places.device) <= places[:, None]
        unseen = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))[:, None, None]

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            heads = (-1, 1, runner.n_head, runner.head_dim)
            at = every, places
            return self._attend(query.view(heads), key.view(heads), value.view(heads), turn, unseen, pool[layer], at)

        pool, adapted = self.slots.pool[:, :, :count], [] if adapter is None else [Adapted(adapter, slice(None))]
        x = runner.model.transformer.wte(self.tokens[:count])  # (S, n_embd)
        outputs = None
        for layer in range(len(runner.layers)):
            x, outputs = runner.through_layer(layer, x, attention, adapted, outputs)
        logits = runner.logits(x, adapted).float()
        if draws:
            logits = self.sampling.penalize(logits)
        drawn = self.sampling.draw(logits) if draws else logits.argmax(-1)
        self.told[:count] = torch.where(logits.amax(-1).isfinite(), drawn, -1)  # NaN wins a max
        self.sampling.note(drawn, active)
        self.tokens[:count] = torch.where(active, drawn, self.tokens[:count])
        self.places[:count] += active


def doubled(number: int, least: int, most: int) -> int:
    """The smallest of least, 2 least, 4 least ... that `number` does not exceed, but never more than `most`."""
    while least < number:
        least *= 2
    return min(least, most)


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

    unseen (S, 1, 1, span) float32, -inf where a slot may not look: there keys and values must be finite all the same;
    at: slots and their places, each (S,).
    """
    (every, places), size = at, query.shape[2]
    query, key = rotate(torch.cat((query, key), dim=2), *turn).transpose(1, 2).split(size, dim=1)  # (S, H, 1, D)
    stored[0][every, :, places] = key[:, :, 0]
    stored[1][every, :, places] = value[:, 0]
    keys, values = stored[..., : unseen.shape[-1], :]
    weights = scores(query, keys) * query.shape[-1] ** -0.5 + unseen
    mixed = weights.softmax(dim=-1).to(values.dtype) @ values
    return mixed.flatten(1)


def scores(query: Tensor, keys: Tensor) -> Tensor:
    """query (S, H, 1, D), keys (S, H, span, D) -> their products (S, H, 1, span) in float32.

    Not rounded to 16 bits in between, where GPT-J's could overflow in float16: a GPU has a product that reads 16 bits
    and gives 32, a CPU has none.
    """
    if query.is_cuda and query.dtype != torch.float32:
        rows, columns = query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)  # keys: a view, nothing is copied
        return torch.bmm(rows, columns, out_dtype=torch.float32).unflatten(0, query.shape[:2])
    return query.float() @ keys.float().transpose(-1, -2)
