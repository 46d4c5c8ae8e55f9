"""The engine: any number of threads submit prompts, one thread runs the model over a batch of them, pieces stream back.

Always: greedy ids equal `gptj.generate_naive`'s whatever else is in the batch and whatever a cache held; a stop string
is never shown, not even its beginning; a cancelled reply's slot is free after the pass that runs; an exception inside
one request ends that request alone.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from model.engine.adapters import Adapter
from model.engine.batch import Batch
from model.engine.params import SamplingParams
from model.engine.request import Piece, Request
from model.engine.runner import Runner
from model.engine.waiting import WaitingLine
from model.errors import PromptTooLong
from model.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

IDLE_S = 30.0  # after so long without work the thread ends, so that an engine nobody holds any more can go

__all__ = ["Engine", "Piece", "Stream"]


class Stream(Iterator[Piece]):
    """The pieces of one reply as they come; leaving it (close, or no reference any more) cancels the reply."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False

    def __next__(self) -> Piece:
        if self._ended:
            raise StopIteration
        got = self._request.pieces.get()
        if isinstance(got, BaseException):
            self._ended = True
            raise got
        self._ended = got.finish is not None
        return got

    def close(self) -> None:
        self._ended = True
        self._request.cancel.set()

    def __del__(self) -> None:
        if not self._ended:
            self.close()

    @property
    def reused_tokens(self) -> int:
        """How many ids of the prompt were in a cache already; known when the first piece is there."""
        return self._request.reused_tokens


class Engine:
    """Streams continuations of lists of ids, up to `max_batch` at a time; more wait in turn, fair between owners.

    in_slots: keys and values in slots of one whole context each, as many as `cache_mb` holds, and decoding as one CUDA
    graph over them (default: on a GPU). As many as there are slots run at a time then, and ModelError is raised at once
    if the device has no room for them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        max_batch: int = 16,
        max_waiting: int = 256,
        cache_mb: int = 1024,
        in_slots: bool | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context = int(model.config.n_positions)
        self._waiting = WaitingLine(max_waiting)
        runner = Runner(model)
        in_slots = runner.layout.device.type == "cuda" if in_slots is None else in_slots
        self._batch = Batch(runner, cache_mb * 2**20, max_batch, in_slots=in_slots)
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        # Torch's threads must not be in the middle of a pass when the interpreter goes: the process would abort.
        atexit.register(_close_if_there, weakref.ref(self))

    def submit(
        self,
        ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: Collection[int] = (),
        stop_strings: Sequence[str] = (),
        cancel: threading.Event | None = None,
        adapter: Adapter | None = None,
        owner: str = "",
        logprobs: bool = False,
    ) -> Stream:
        """Stream the continuation of `ids`; closing the stream or setting `cancel` ends it between two passes.

        `owner` says whose it is (a chat): owners take turns, and one cannot fill the line for all. Raises, at once,
        PromptTooLong if `ids` leave no room in the context, EngineBusy if the line is full, ValueError without ids.
        """
        if not ids:
            raise ValueError("submit: no ids to continue")
        if len(ids) >= self.context:
            raise PromptTooLong(
                f"the text has {len(ids)} tokens and the model's context {self.context}, "
                "one of them for the reply: shorten it"
            )
        request = Request(
            ids=list(ids),
            params=params,
            stop_ids=frozenset(stop_ids),
            tokenizer=self.tokenizer,
            stop_strings=tuple(stop_strings),
            max_new_tokens=min(params.max_new_tokens, self.context - len(ids)),
            cancel=cancel or threading.Event(),
            adapter=adapter,
            owner=owner,
            logprobs=logprobs,
        )
        with self._wake:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._waiting.add(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()
            self._wake.notify()
        return Stream(request)

    @property
    def num_running(self) -> int:
        return len(self._batch.running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def cache_bytes(self) -> int:
        """What idle and running conversations hold; in slots, what is taken for them."""
        return self._batch.cache_bytes

    def close(self) -> None:
        """Ends the thread after the pass that runs; what is unfinished ends as cancelled."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not (self._closed or self._batch.running or len(self._waiting)):
                    self._wake.wait(IDLE_S)
                if not (self._closed or self._batch.running or len(self._waiting)):
                    self._thread = None
                    return
                if self._closed:
                    self._batch.cancel_all()
                    self._waiting.cancel_all()
                    return
            try:
                with self._wake:
                    self._batch.admit(self._waiting)
                self._batch.step()
            except Exception as error:  # a bug of ours: those in the batch must not wait for ever
                logger.exception("the engine's pass failed")
                self._batch.fail_all(error)


def _close_if_there(engine: weakref.ref[Engine]) -> None:
    if (found := engine()) is not None:
        found.close()
