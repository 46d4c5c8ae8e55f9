"""What goes wrong on demand: which call, how often, how. A fault is used up as calls meet it, the oldest first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.emulator.http_server import Response
from tests.emulator.parameters import ApiError

STATUS = {
    "400": "Bad Request: injected",
    "401": "Unauthorized",
    "403": "Forbidden: bot was blocked by the user",
    "404": "Not Found",
    "409": "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    "500": "Internal Server Error",
}
KINDS = (*STATUS, "429", "502", "bad_json", "cut_before", "cut_after", "slow", "slow_after", "forget_offset")
BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body></html>\r\n"
)


@dataclass
class Fault:
    method: str  # "*": any but getUpdates
    kind: str
    left: int | None  # None: until healed
    chat_id: int | None  # None: any chat
    retry_after: int
    seconds: float

    def meets(self, method: str, chat_id: int | None) -> bool:
        if self.method != method and not (self.method == "*" and method != "getUpdates"):
            return False
        return self.chat_id is None or self.chat_id == chat_id


class Faults:
    """The faults still due, and the flood bans that they started."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._banned_until: dict[int | None, float] = {}  # chat, or None for the whole bot -> monotonic

    def add(self, fault: Fault) -> None:
        if fault.kind not in KINDS:
            raise ValueError(f"kind is {fault.kind!r}: expected one of {', '.join(KINDS)}")
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()
        self._banned_until.clear()

    def take(self, method: str, chat_id: int | None) -> Fault | None:
        """The fault that this call meets, counted; None if it goes well."""
        for fault in self._faults:
            if fault.meets(method, chat_id):
                if fault.left is not None:
                    fault.left -= 1
                    if fault.left <= 0:
                        self._faults.remove(fault)
                return fault
        return None

    def ban(self, chat_id: int | None, seconds: float) -> None:
        self._banned_until[chat_id] = time.monotonic() + seconds

    def check_ban(self, chat_id: int | None) -> None:
        """Raises 429 while the chat or the bot is banned: who asks too early is told the rest of the time."""
        for key in (chat_id, None):
            left = self._banned_until.get(key, 0.0) - time.monotonic()
            if left > 0:
                raise too_many_requests(left)


def too_many_requests(seconds: float) -> ApiError:
    whole = max(1, int(seconds + 0.999))
    return ApiError(429, f"Too Many Requests: retry after {whole}", retry_after=whole)


def broken_answer(kind: str) -> Response:
    """What a proxy or a broken server answers instead of the Bot API."""
    if kind == "502":
        return Response(502, BAD_GATEWAY, "text/html")
    return Response(200, b'{"ok":true,"result":{"message_id":')
