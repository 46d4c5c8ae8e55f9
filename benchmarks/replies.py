"""Asks an engine for replies from one or many threads and notes when every token came."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.errors import EngineBusy


@dataclass
class Reply:
    """When it was asked for, and when each of its pieces came (`time.perf_counter`), with the ids of each."""

    asked_at: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    finish: str | None = None  # "stop", "length", "cancelled", or "busy"

    @property
    def first_s(self) -> float:
        return self.times[0] - self.asked_at

    @property
    def decode_tokens_per_s(self) -> float:
        """Of all tokens after the first piece."""
        return sum(self.sizes[1:]) / (self.times[-1] - self.times[0])

    def tokens_between(self, start: float, end: float) -> int:
        return sum(size for moment, size in zip(self.times, self.sizes, strict=True) if start < moment <= end)


def random_ids(engine: Engine, length: int, seed: int) -> list[int]:
    """Ids that share no beginning with those of another seed."""
    generator = torch.Generator().manual_seed(seed)
    highest = engine.model.config.num_tokens or engine.model.config.vocab_size
    return torch.randint(5, highest, (length,), generator=generator).tolist()


def ask(
    engine: Engine, ids: Sequence[int], num_tokens: int, *, owner: str = "", give_up_after: int | None = None
) -> Reply:
    """A greedy reply of `num_tokens`, heard to its end or cancelled after so many pieces; "busy" if turned away."""
    reply = Reply()
    try:
        stream = engine.submit(ids, SamplingParams(temperature=0.0, max_new_tokens=num_tokens), owner=owner)
    except EngineBusy:
        reply.finish = "busy"
        return reply
    for piece in stream:
        if piece.ids:
            reply.times.append(time.perf_counter())
            reply.sizes.append(len(piece.ids))
            reply.ids += piece.ids
        reply.finish = piece.finish
        if give_up_after is not None and len(reply.times) >= give_up_after and piece.finish is None:
            stream.close()
            reply.finish = "cancelled"
            break
    return reply


def ask_at_once(engine: Engine, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[Reply]:
    """One thread a prompt, all let go together; each prompt is an owner of its own."""
    replies: list[Reply | None] = [None] * len(prompts)
    gate = threading.Barrier(len(prompts))

    def run(place: int) -> None:
        gate.wait()
        replies[place] = ask(engine, prompts[place], num_tokens, owner=f"chat {place}")

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [reply for reply in replies if reply is not None]
