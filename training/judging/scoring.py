"""Losses of given tokens under one adapter or none, on a base that stays as it is.

Always: several examples go through the model in one pass with positions that begin again (`model.gptj` tells them
apart exactly), all contestants in the same passes, so that their losses are paired down to the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.engine.adapters import Adapter
from training.judging.judgement import MAX_LOSS
from training.tuning.dataset import Encoded

Hook = Callable[[Any, tuple[Tensor, ...], Tensor], Tensor | None]
Tick = Callable[[int, int], None]  # examples done, in all; called between passes, so it may wait


@dataclass(frozen=True)
class Scored:
    """Of one example's learnt tokens: losses in nats (n,), at most MAX_LOSS, and which of them greedy decoding says."""

    losses: Tensor  # float64
    hits: Tensor  # bool

    @property
    def total(self) -> float:
        return float(self.losses.sum())


@contextmanager
def wearing(model: nn.Module, adapter: Adapter | None) -> Iterator[None]:
    """Within it the model's own forward is the adapter's; the layers are not changed, so an engine may share them.

    Raises ValueError for an adapter with a layer that the model lacks.
    """
    handles = []
    modules: dict[str, Any] = dict(model.named_modules())
    try:
        for name, hook in _hooks(adapter).items() if adapter is not None else ():
            if name not in modules:
                raise ValueError(f"the model has no layer {name!r} for the adapter {adapter.name if adapter else ''!r}")
            handles.append(modules[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(adapter: Adapter) -> dict[str, Hook]:
    """By layer, what adds the matrices to its output, or gives its own LayerNorm's instead."""

    def adding(name: str) -> Hook:
        return lambda module, inputs, output: adapter.add(output, inputs[0], name)

    def norming(name: str) -> Hook:
        return lambda module, inputs, output: adapter.norm(inputs[0], name, module.eps)

    return {name: adding(name) for name in adapter.matrices} | {name: norming(name) for name in adapter.normed_layers}


@torch.inference_mode()
def score(model: Any, examples: Sequence[Encoded], adapter: Adapter | None, tick: Tick | None = None) -> list[Scored]:
    """The learnt tokens of each example, each with all that stands before it in its example -> in the given order.

    An example is at most the model's context long.
    """
    found: dict[int, Scored] = {}
    row_tokens = model.config.n_positions  # the longer a row, the rarer the weights are decoded
    with wearing(model, adapter):
        for row in _rows([len(example.ids) for example in examples], row_tokens):
            if tick is not None:
                tick(len(found), len(examples))
            found |= _pass(model, examples, row)
    if tick is not None:
        tick(len(found), len(examples))
    return [found[i] for i in range(len(examples))]


def _rows(lengths: Sequence[int], row_tokens: int) -> Iterator[list[int]]:
    """Indices of the examples that share a pass, longest first."""
    row: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if row and sum(lengths[j] for j in row) + lengths[i] > row_tokens:
            yield row
            row = []
        row.append(i)
    if row:
        yield row


def _pass(model: Any, examples: Sequence[Encoded], row: Sequence[int]) -> dict[int, Scored]:
    ids: list[int] = []
    positions: list[int] = []
    places: list[int] = []  # whose next token is learnt
    for i in row:
        places += [len(ids) + at - 1 for at, learnt in enumerate(examples[i].learnt) if learnt]
        positions += range(len(examples[i].ids))
        ids += examples[i].ids
    if not places:
        nothing = torch.empty(0, dtype=torch.float64)
        return {i: Scored(nothing, nothing.bool()) for i in row}
    at = torch.tensor(places, device=model.device)
    input_ids = torch.tensor([ids], device=model.device)
    position_ids = torch.tensor([positions], device=model.device)
    logits = model(input_ids=input_ids, position_ids=position_ids, use_cache=False, logits_to_keep=at).logits[0].float()
    targets = input_ids[0, at + 1]
    losses = F.cross_entropy(logits, targets, reduction="none")
    losses = losses.double().nan_to_num(MAX_LOSS, MAX_LOSS, MAX_LOSS).clamp(0.0, MAX_LOSS).cpu()
    hits = (logits.argmax(dim=-1) == targets).cpu()
    counts = [examples[i].num_learnt for i in row]
    parts = zip(losses.split(counts), hits.split(counts), strict=True)
    return {i: Scored(*part) for i, part in zip(row, parts, strict=True)}
