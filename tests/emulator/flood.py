"""Telegram's limits, for runs with `flood=True`: 2 messages a second in a chat, 20 a minute in a group, 30 a second.

The real ones are unknown and allow short bursts; so do these: who goes over is refused for a few seconds.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque

from tests.emulator.faults import too_many_requests

LIMITED = {"sendMessage", "sendMessageDraft", "sendDocument", "editMessageText", "editMessageReplyMarkup"}
WINDOW_S = {"chat": (3.0, 6), "group": (60.0, 20), "all": (1.0, 30)}  # seconds, calls in them


class Flood:
    """Counts calls in sliding windows; raises 429 with the time until the oldest leaves its window."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, int], deque[float]] = defaultdict(deque)

    def count(self, method: str, chat_id: int, is_group: bool) -> None:
        if method not in LIMITED:
            return
        now = time.monotonic()
        keys = [("chat", chat_id), ("all", 0)]
        if is_group:
            keys.append(("group", chat_id))
        for key in keys:
            seconds, most = WINDOW_S[key[0]]
            calls = self._calls[key]
            while calls and calls[0] <= now - seconds:
                calls.popleft()
            if len(calls) >= most:
                raise too_many_requests(calls[0] + seconds - now)
        for key in keys:
            self._calls[key].append(now)
