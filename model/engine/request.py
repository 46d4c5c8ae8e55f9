"""One reply in the making: what was asked for, how far it has come, and the queue its pieces go out by."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

import torch
from torch import Tensor

from model.engine.adapters import Adapter
from model.engine.cache import KeyValues
from model.engine.params import SamplingParams
from model.engine.sampling import make_generator, sample
from model.engine.stops import TextGate
from model.tokenizer import StreamDecoder, Tokenizer

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Piece:
    """New text with the ids that say it; `finish` is set on the last piece only. A stop id is in neither.

    `logprobs` (one for each id, natural logarithm, of the model's own distribution) only where they were asked for.
    """

    text: str
    ids: tuple[int, ...]
    finish: Finish | None = None
    logprobs: tuple[float, ...] = ()


@dataclass(eq=False)
class Request:
    """Made by `Engine.submit`, worked on by the engine's thread alone; only `cancel` and `pieces` are shared."""

    ids: list[int]
    params: SamplingParams
    stop_ids: frozenset[int]
    tokenizer: Tokenizer
    stop_strings: tuple[str, ...]
    max_new_tokens: int
    cancel: threading.Event
    adapter: Adapter | None
    owner: str
    logprobs: bool
    pieces: SimpleQueue[Piece | BaseException] = field(default_factory=SimpleQueue)
    kv: KeyValues | None = None
    reused_tokens: int = 0
    generated: list[int] = field(default_factory=list)
    finished: bool = False

    def __post_init__(self) -> None:
        self._decoder, self._gate = StreamDecoder(self.tokenizer), TextGate(self.stop_strings)
        self._generator: torch.Generator = make_generator(self.params.seed)
        self._scores: list[float] = []  # log-probabilities of generated ids that are not out yet

    @property
    def num_pending(self) -> int:
        """Ids that must go through the model before the next one can be drawn."""
        assert self.kv is not None
        return len(self.ids) + len(self.generated) - len(self.kv.ids)

    def pending(self, most: int) -> list[int]:
        """The first `most` of them."""
        assert self.kv is not None
        done, prompt = len(self.kv.ids), len(self.ids)
        if done >= prompt:
            return self.generated[done - prompt : done - prompt + most]
        return self.ids[done : done + most]

    def take(self, logits: Tensor) -> None:
        """Draw the next token from logits (V,) and accept it."""
        token = sample(logits, self.params, self._generator, self.generated)
        if self.logprobs and token not in self.stop_ids:
            self._scores.append(float(logits.float().log_softmax(-1)[token]))
        self.accept(token)

    def accept(self, token: int) -> None:
        """The next token, drawn: send out what became certain; sets `finished` at the end."""
        if token in self.stop_ids:
            self.finish("stop")
            return
        self.generated.append(token)
        text, said = self._gate.push(token, self._decoder.push(token))
        if self._gate.stopped:
            self._send(text, said, "stop")
            return
        if text or said:
            self._send(text, said)
        if len(self.generated) >= self.max_new_tokens:
            self.finish("length")

    def finish(self, why: Finish) -> None:
        """The end: what is held back goes out with it."""
        text, said = self._gate.flush(self._decoder.flush())
        self._send(text, said, "stop" if self._gate.stopped else why)

    def fail(self, error: BaseException) -> None:
        """The end by an error: its keys and values may hold NaN, and no other conversation goes on from there."""
        if self.kv is not None:
            self.kv.crop(0)
        self.finished = True
        self.pieces.put(error)

    def _send(self, text: str, ids: tuple[int, ...], finish: Finish | None = None) -> None:
        scores = tuple(self._scores[: len(ids)])
        del self._scores[: len(ids)]
        self.finished = finish is not None
        self.pieces.put(Piece(text, ids, finish, scores))
