"""People, chats and the messages in them, as Telegram keeps them."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass, field
from typing import Any

from tests.emulator.parameters import ApiError, bad_request

GROUP_ANONYMOUS_BOT = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
_ENTITY = re.compile(
    r"(?P<bot_command>(?<!\S)/[A-Za-z0-9_]{1,32}(?:@[A-Za-z0-9_]+)?)|(?P<mention>(?<!\w)@[A-Za-z0-9_]{5,32})"
)


@dataclass(frozen=True)
class User:
    id: int
    first_name: str
    username: str | None = None
    is_bot: bool = False
    language_code: str | None = "es"

    def as_json(self) -> dict[str, Any]:
        fields = {"id": self.id, "is_bot": self.is_bot, "first_name": self.first_name}
        optional = {"username": self.username, "language_code": self.language_code}
        return fields | {name: value for name, value in optional.items() if value}


@dataclass(eq=False)
class Chat:
    id: int
    type: str  # "private", "group", "supergroup", "channel"
    title: str = ""
    user: User | None = None  # of a private chat
    is_forum: bool = False
    refusal: str | None = None  # why the bot may not write here
    migrated_to: int | None = None
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)  # by message_id, in order
    threads: set[int] = field(default_factory=set)  # topics that exist
    ids: Any = field(default_factory=lambda: itertools.count(1))

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"id": self.id, "type": self.type}
        if self.user is not None:
            fields["first_name"] = self.user.first_name
            if self.user.username:
                fields["username"] = self.user.username
        else:
            fields["title"] = self.title
        if self.is_forum:
            fields["is_forum"] = True
        return fields

    def add(self, sender: dict[str, Any] | None, fields: dict[str, Any]) -> dict[str, Any]:
        """Put a message into the chat; `fields` may hold a date, a text (entities are found) and anything else."""
        message: dict[str, Any] = {"message_id": next(self.ids), "chat": self.as_json(), "date": int(time.time())}
        if sender is not None:
            message["from"] = sender
        message |= fields
        if message.get("text") and "entities" not in message and (found := entities(message["text"])):
            message["entities"] = found
        self.messages[message["message_id"]] = message
        return message

    def reply_fields(self, reply_to: int | None, thread: int | None) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if reply_to is not None and reply_to in self.messages:
            fields["reply_to_message"] = without_reply(self.messages[reply_to])
            thread = thread or self.messages[reply_to].get("message_thread_id")
        if thread:
            fields |= {"message_thread_id": thread, "is_topic_message": True}
        return fields


class World:
    """Every user and chat that there is."""

    def __init__(self) -> None:
        self.chats: dict[int, Chat] = {}
        self._ids = itertools.count(1001)

    def user(self, first_name: str, **fields: Any) -> User:
        number = next(self._ids)
        return User(
            fields.pop("id", 5_000_000_000 + number), first_name, fields.pop("username", f"user_{number}"), **fields
        )

    def private(self, user: User) -> Chat:
        return self.chats.setdefault(user.id, Chat(user.id, "private", user=user))

    def group(self, title: str, kind: str = "supergroup", is_forum: bool = False) -> Chat:
        number = next(self._ids)
        chat_id = -number if kind == "group" else -1_001_000_000_000 - number
        return self.chats.setdefault(chat_id, Chat(chat_id, kind, title, is_forum=is_forum))

    def find(self, chat_id: int) -> Chat:
        """The chat for a call of the bot. Raises what Telegram answers where the bot may not write."""
        chat = self.chats.get(chat_id)
        if chat is None:
            raise bad_request("chat not found")
        if chat.migrated_to is not None:
            raise bad_request("group chat was upgraded to a supergroup chat", migrate_to_chat_id=chat.migrated_to)
        if chat.refusal is not None:
            raise ApiError(403, f"Forbidden: {chat.refusal}")
        return chat


def entities(text: str) -> list[dict[str, Any]]:
    """Commands and mentions; offsets and lengths count UTF-16 units."""
    return [
        {"type": found.lastgroup, "offset": units(text[: found.start()]), "length": units(found[0])}
        for found in _ENTITY.finditer(text)
    ]


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def without_reply(message: dict[str, Any]) -> dict[str, Any]:
    """Telegram shows one level of replies only."""
    return {name: value for name, value in message.items() if name != "reply_to_message"}
