"""What the bot did: every call with its time and its outcome, and the fields of what people may send besides text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_FILE = {"file_id": "AwACAgQAAx0", "file_unique_id": "AgADBQAD"}
VOICE: dict[str, Any] = _FILE | {"duration": 3, "mime_type": "audio/ogg", "file_size": 9000}
PHOTO: list[dict[str, Any]] = [_FILE | {"width": 90, "height": 90, "file_size": 1200}]
STICKER: dict[str, Any] = _FILE | {
    "type": "regular",
    "width": 512,
    "height": 512,
    "is_animated": False,
    "is_video": False,
    "emoji": "🙂",
}
MESSAGES = {"sendMessage", "sendDocument"}


@dataclass(frozen=True)
class Sent:
    """One call of the bot; `at` is time.monotonic() when it was done or refused."""

    method: str
    params: dict[str, Any]
    at: float
    status: int  # as answered; 0: the connection was cut
    applied: bool
    chat_id: int | None = None
    message_id: int | None = None
    thread_id: int | None = None
    reply_to: int | None = None
    text: str = ""
    buttons: tuple[tuple[str, str], ...] = ()  # (text, callback_data), row by row
    file: bytes | None = None  # of a document
    file_name: str | None = None
    description: str = ""  # of a refusal


def view(message: dict[str, Any]) -> Sent:
    """A message of the bot as it stands in the chat now."""
    return Sent(
        method="shown",
        params={},
        at=0.0,
        status=200,
        applied=True,
        chat_id=message["chat"]["id"],
        message_id=message["message_id"],
        thread_id=message.get("message_thread_id"),
        reply_to=message.get("reply_to_message", {}).get("message_id"),
        text=message.get("text") or message.get("caption", ""),
        buttons=buttons(message.get("reply_markup")),
    )


def buttons(markup: Any) -> tuple[tuple[str, str], ...]:
    rows = markup.get("inline_keyboard", []) if isinstance(markup, dict) else []
    return tuple((button["text"], button.get("callback_data", "")) for row in rows for button in row)


class Record:
    """Calls in the order in which they were done."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.calls: list[Sent] = []
        self._changed = changed

    def add(self, call: Sent) -> None:
        self.calls.append(call)
        self._changed()

    def find(self, method: str | None, chat_id: int | None) -> list[Sent]:
        return [
            call
            for call in self.calls
            if method in (None, call.method)
            and chat_id in (None, call.chat_id)
            and (method or call.method != "getUpdates")
        ]

    def messages(self, method: str | None, chat_id: int | None) -> list[Sent]:
        """Messages that a chat got, in order."""
        return [
            call
            for call in self.calls
            if call.applied
            and (call.method == method if method else call.method in MESSAGES)
            and chat_id in (None, call.chat_id)
        ]
