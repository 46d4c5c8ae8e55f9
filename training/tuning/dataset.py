"""Dialogues to rows of ids: what is learnt of each, and several packed into one row without seeing one another.

Always: the ids are `conversation.render`'s, the same as in the chat; positions begin again with each example and there
is no attention mask and no cache, which is how `model.gptj` tells packed examples apart exactly. No token is padding.
The order of a run follows from its seed alone, so a resumed run reads on exactly where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.conversation import Message, render
from model.errors import PromptTooLong
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.curation.fitting import fit
from training.errors import TuneError
from training.tuning.presets import TuneOptions

if TYPE_CHECKING:
    from training.examples import Example, Preference


@dataclass(frozen=True)
class Encoded:
    """One example's ids, and for each whether it is learnt; the first never is, nothing stands before it."""

    ids: list[int]
    learnt: list[bool]

    @property
    def num_learnt(self) -> int:
        return sum(self.learnt)


@dataclass(frozen=True)
class Row:
    """Examples side by side. input_ids, position_ids (1, T); kept (P,) the places whose next token is learnt, targets
    (P,) those tokens; lengths and counts: T and P of each example.
    """

    input_ids: Tensor
    position_ids: Tensor
    kept: Tensor
    targets: Tensor
    lengths: list[int]
    counts: list[int]

    def to(self, device: torch.device) -> Row:
        ids, positions, kept, targets = (
            tensor.to(device) for tensor in (self.input_ids, self.position_ids, self.kept, self.targets)
        )
        return Row(ids, positions, kept, targets, self.lengths, self.counts)


@dataclass(frozen=True)
class Dataset:
    """Units that stay together in a row (one example, or a pair for DPO), and how many could not be used and why."""

    units: list[tuple[Encoded, ...]]
    dropped: Counter[str]


def size(unit: tuple[Encoded, ...]) -> int:
    return sum(len(encoded.ids) for encoded in unit)


def encode_examples(examples: Sequence[Example], fmt: PromptFormat, tokenizer: Tokenizer, context: int) -> Dataset:
    """Examples as units of one, cut to `context` tokens by `curation.fit`."""
    units: list[tuple[Encoded, ...]] = []
    dropped: Counter[str] = Counter()
    for example in examples:
        fitted = fit(example, fmt, tokenizer, context)
        dropped["turns longer than the context"] += fitted.dropped_turns
        found = []
        for piece in fitted.pieces:
            if piece.document is not None:
                found.append(_document(piece.document, tokenizer))
            else:
                found.append(_dialogue(piece.messages, piece.trained, fmt, tokenizer, None))
        units += [(encoded,) for encoded in found if encoded.num_learnt]
        dropped["examples with nothing to learn"] += not any(encoded.num_learnt for encoded in found)
    return Dataset(units, +dropped)


def encode_preferences(
    preferences: Sequence[Preference], fmt: PromptFormat, tokenizer: Tokenizer, context: int
) -> Dataset:
    """Pairs (chosen, rejected) after the same history, of which old turns go until it fits; only the reply counts."""
    units: list[tuple[Encoded, ...]] = []
    dropped: Counter[str] = Counter()
    for preference in preferences:
        pair = []
        for reply in (preference.chosen, preference.rejected):
            messages = (*preference.history, Message("assistant", reply))
            trained = (*(False for _ in preference.history), True)
            try:
                pair.append(_dialogue(messages, trained, fmt, tokenizer, context))
            except PromptTooLong:
                break
        if len(pair) < 2:
            dropped["pairs longer than the context"] += 1
        elif pair[0].ids == pair[1].ids:
            dropped["pairs of the same reply"] += 1
        else:
            units.append(tuple(pair))
    return Dataset(units, dropped)


def _dialogue(
    messages: Sequence[Message], trained: Sequence[bool], fmt: PromptFormat, tokenizer: Tokenizer, context: int | None
) -> Encoded:
    rendered = render(messages, fmt, tokenizer, max_tokens=context)
    body = list(zip(messages, trained, strict=True))
    body = body[1:] if messages[0].role == "system" else body
    wanted = [flag for message, flag in body[rendered.dropped_messages :] if message.role == "assistant"]
    # Each reply with its end is one run of learnt ids, and no two touch: a reply's opening stands between.
    learnt: list[bool] = []
    replies = iter(wanted)
    for is_reply, run in groupby(rendered.loss_mask):
        length = len(list(run))
        learnt += [is_reply and next(replies)] * length
    assert next(replies, None) is None, "a reply left no ids"
    learnt[0] = False
    return Encoded(rendered.ids, learnt)


def _document(text: str, tokenizer: Tokenizer) -> Encoded:
    """A plain text with its end marker, learnt whole."""
    ids = [*tokenizer.encode_document(text), tokenizer.eos_id] if text else []
    return Encoded(ids, [False] + [True] * (len(ids) - 1) if ids else [])


def context_of(options: TuneOptions, config: Any) -> int:
    """The longest example in tokens, for a model with this config. Raises TuneError if it reads less."""
    if options.context > config.n_positions:
        raise TuneError(f"context is {options.context}: the model reads at most {config.n_positions} tokens")
    return options.context or int(config.n_positions)


@lru_cache(maxsize=2)
def order(num_units: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch goes through its units."""
    indices = list(range(num_units))
    Random(f"{seed}/{epoch}").shuffle(indices)
    return indices


def batch(num_units: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The units of a step, counted from 0; an epoch's last batch may be short."""
    epoch, at = divmod(step, steps_per_epoch(num_units, batch_size))
    return order(num_units, seed, epoch)[at * batch_size : (at + 1) * batch_size]


def steps_per_epoch(num_units: int, batch_size: int) -> int:
    return -(-num_units // batch_size)


def pack(units: Sequence[tuple[Encoded, ...]], row_tokens: int, at_least: int = 1) -> list[Row]:
    """Units into as few rows of at most `row_tokens` as there may be, longest first; `at_least` so many rows if there
    are enough units (one for each process). A unit longer than a row has a row of its own.
    """
    wanted = max(-(-sum(map(size, units)) // row_tokens), min(at_least, len(units)))
    rows: list[list[tuple[Encoded, ...]]] = [[] for _ in range(wanted)]
    filled = [0] * wanted
    for unit in sorted(units, key=size, reverse=True):
        i = min(range(len(rows)), key=filled.__getitem__)
        if rows[i] and filled[i] + size(unit) > row_tokens:
            rows.append([])
            filled.append(0)
            i = len(rows) - 1
        rows[i].append(unit)
        filled[i] += size(unit)
    return [_row([encoded for unit in row for encoded in unit]) for row in rows if row]


def _row(examples: list[Encoded]) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    kept: list[int] = []
    targets: list[int] = []
    for encoded in examples:
        kept += [len(ids) + i - 1 for i, learnt in enumerate(encoded.learnt) if learnt]
        targets += [token for token, learnt in zip(encoded.ids, encoded.learnt, strict=True) if learnt]
        positions += range(len(encoded.ids))
        ids += encoded.ids
    return Row(
        torch.tensor([ids]),
        torch.tensor([positions]),
        torch.tensor(kept),
        torch.tensor(targets),
        [len(encoded.ids) for encoded in examples],
        [encoded.num_learnt for encoded in examples],
    )
