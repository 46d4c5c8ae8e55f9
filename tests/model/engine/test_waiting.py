"""The line before the slots, by itself; what it does for an engine is in `test_batch`."""

import threading

from model import Tokenizer
from model.engine.params import SamplingParams
from model.engine.request import Request
from model.engine.waiting import WaitingLine


def request_of(tokenizer: Tokenizer, length: int) -> Request:
    return Request(
        ids=[1] * length,
        params=SamplingParams(max_new_tokens=4),
        stop_ids=frozenset(),
        tokenizer=tokenizer,
        stop_strings=(),
        max_new_tokens=4,
        cancel=threading.Event(),
        adapter=None,
        owner="",
        logprobs=False,
    )


def test_whoever_waits_behind_one_without_room_can_leave_the_line(tokenizer: Tokenizer) -> None:
    waiting = WaitingLine(8)
    large, small, stays = (request_of(tokenizer, length) for length in (500, 4, 4))
    for request in (large, small, stays):
        waiting.add(request)
    small.cancel.set()
    waiting.end_cancelled()
    assert waiting.take(crowds=lambda _: False, fits=lambda request: request is not large) is None
    assert (small.finished, large.finished, len(waiting)) == (True, False, 2)
    assert waiting.take(crowds=lambda request: request is large, fits=lambda _: True) is stays
    assert waiting.take(crowds=lambda _: False, fits=lambda _: True) is large
    assert len(waiting) == 0
