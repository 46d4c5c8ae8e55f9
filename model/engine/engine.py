"""One conversation at a time, token by token: prefill what is new, decode, stop, stream.

Always: greedy ids equal `gptj.generate_naive`'s; a reply on a re-used cache equals one on a fresh cache; a stop string
is never shown, not even its beginning. Later the inside becomes a batch of conversations; `Engine.submit` stays.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from model.engine.sampling import SamplingParams, make_generator, sample
from model.engine.stops import TextGate
from model.errors import PromptTooLong
from model.tokenizer import StreamDecoder, Tokenizer

Finish = Literal["stop", "length", "cancelled"]

# Ids that one forward pass takes in: between two passes a reply can be cancelled, and activations stay small.
PREFILL_TOKENS = 256


@dataclass(frozen=True)
class Piece:
    """New text with the ids that say it; `finish` is set on the last piece only. A stop id is in neither."""

    text: str
    ids: tuple[int, ...]
    finish: Finish | None = None


@dataclass
class _Kept:
    """Keys and values of a conversation, and the ids they belong to."""

    ids: list[int]
    cache: DynamicCache


class Engine:
    """Streams continuations of lists of ids. Several threads may submit; the cache of the last reply is re-used."""

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.context = int(model.config.n_positions)
        self.reused_tokens = 0  # of the last prompt, for figures and tests
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def submit(
        self,
        ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: Collection[int] = (),
        stop_strings: Sequence[str] = (),
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece]:
        """Stream the continuation of `ids`; closing the iterator or setting `cancel` ends it between two tokens.

        Raises PromptTooLong, at once, if `ids` leave no room in the context, and ValueError if there are none.
        """
        if not ids:
            raise ValueError("submit: no ids to continue")
        if len(ids) >= self.context:
            raise PromptTooLong(
                f"the text has {len(ids)} tokens and the model's context {self.context}, "
                "one of them for the reply: shorten it"
            )
        return self._stream(list(ids), params, frozenset(stop_ids), tuple(stop_strings), cancel or threading.Event())

    def _stream(
        self,
        ids: list[int],
        params: SamplingParams,
        stop_ids: frozenset[int],
        stop_strings: tuple[str, ...],
        cancel: threading.Event,
    ) -> Iterator[Piece]:
        kept = self._take(ids)
        decoder, gate, generator = StreamDecoder(self.tokenizer), TextGate(stop_strings), make_generator(params.seed)
        generated: list[int] = []
        last = min(params.max_new_tokens, self.context - len(ids))
        try:
            finish: Finish = "length"
            while len(generated) < last:
                logits = self._logits(kept, ids + generated, cancel)
                if logits is None:
                    finish = "cancelled"
                    break
                token = sample(logits, params, generator, generated)
                if token in stop_ids:
                    finish = "stop"
                    break
                generated.append(token)
                text, said = gate.push(token, decoder.push(token))
                if gate.stopped:
                    yield Piece(text, said, "stop")
                    return
                if text or said:
                    yield Piece(text, said)
            text, said = gate.flush(decoder.flush())
            yield Piece(text, said, "stop" if gate.stopped else finish)
        finally:
            # A pass that was interrupted leaves layers of different lengths: such a cache is not kept.
            if kept.cache.get_seq_length() == len(kept.ids):
                with self._lock:
                    self._kept = kept

    def _take(self, ids: list[int]) -> _Kept:
        """The kept cache, cut to the longest common prefix with `ids`; it is this reply's alone until given back."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None:
            kept = _Kept([], DynamicCache(config=self.model.config))
        common = 0
        # At least one id must go through the model, for its logits.
        while common < min(len(kept.ids), len(ids) - 1) and kept.ids[common] == ids[common]:
            common += 1
        if common < len(kept.ids):
            with torch.inference_mode():
                kept.cache.crop(common - len(kept.ids))  # takes how many to remove, as a negative number
            del kept.ids[common:]
        self.reused_tokens = common
        return kept

    @torch.inference_mode()
    def _logits(self, kept: _Kept, ids: list[int], cancel: threading.Event) -> Tensor | None:
        """Put what is new of `ids` through the model; logits (V,) after the last one, None when cancelled."""
        logits = None
        while len(kept.ids) < len(ids):
            if cancel.is_set():
                return None
            new = ids[len(kept.ids) : len(kept.ids) + PREFILL_TOKENS]
            out = self.model(
                input_ids=torch.tensor([new], device=self.model.device),
                past_key_values=kept.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            kept.ids += new
            logits = out.logits[0, -1]  # (V,)
        return logits
