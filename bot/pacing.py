"""How fast the bot may speak: to one chat, and to all of them. Telegram's guidance, and what its 429s say.

Always: a chat that was told to wait waits alone. Guidance (core.telegram.org/bots/faq): one message a second in a
chat, 20 a minute in a group, about 30 a second overall; drafts, edits and "typing" share these limits, so they are
only made when there is room.
"""

import asyncio
import time
from dataclasses import dataclass

PRIVATE_S = 1.0
GROUP_S = 3.0
PER_SECOND = 28.0
KEPT_FOR_MESSAGES = 10.0  # of the overall budget: what may be left out does not take the last ones


@dataclass
class _Chat:
    message_at: float = 0.0  # when the next message may go
    preview_at: float = 0.0  # when the next draft or edit may go
    not_before: float = 0.0  # what a 429 said


class Pacing:
    """When the next call may be made; times are of the monotonic clock."""

    def __init__(self) -> None:
        self._chats: dict[int, _Chat] = {}
        self._tokens = PER_SECOND
        self._filled_at = time.monotonic()

    async def wait(self, chat_id: int) -> None:
        """Return when a message to the chat may go; it counts as sent."""
        while (delay := self._delay(chat_id)) > 0:
            await asyncio.sleep(max(delay, 0.001))  # rounding may leave a wait that moves no clock
        self._tokens -= 1
        self._chat(chat_id).message_at = time.monotonic() + spacing(chat_id)

    def take(self, chat_id: int) -> bool:
        """True if a preview (draft, edit, typing) may go now; it counts as sent."""
        now, chat = time.monotonic(), self._chat(chat_id)
        self._fill(now)
        if now < max(chat.preview_at, chat.not_before) or self._tokens < KEPT_FOR_MESSAGES:
            return False
        self._tokens -= 1
        chat.preview_at = now + spacing(chat_id) * 1.2
        return True

    def flooded(self, chat_id: int, retry_after_s: float) -> None:
        """Telegram said 429: nothing goes to this chat for so long."""
        chat = self._chat(chat_id)
        chat.not_before = max(chat.not_before, time.monotonic() + retry_after_s)

    def _delay(self, chat_id: int) -> float:
        now, chat = time.monotonic(), self._chat(chat_id)
        self._fill(now)
        own = max(chat.message_at, chat.not_before) - now
        return own if own > 0 else (1 - self._tokens) / PER_SECOND

    def _fill(self, now: float) -> None:
        self._tokens = min(PER_SECOND, self._tokens + (now - self._filled_at) * PER_SECOND)
        self._filled_at = now

    def _chat(self, chat_id: int) -> _Chat:
        if len(self._chats) > 10_000:
            now = time.monotonic()
            self._chats = {
                key: chat for key, chat in self._chats.items() if max(chat.message_at, chat.not_before) > now
            }
        return self._chats.setdefault(chat_id, _Chat())


def spacing(chat_id: int) -> float:
    """Seconds between two messages to a chat; groups have negative ids."""
    return PRIVATE_S if chat_id > 0 else GROUP_S
