"""What the log takes and gives: a chat, a message of it, what a reply was made with, a row of the inbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Chat:
    """One thread of conversation: a platform (telegram, terminal, import), its chat, and a forum topic or 0."""

    platform: str
    chat_id: int
    thread_id: int = 0


@dataclass(frozen=True)
class LoggedMessage:
    """A stored message; `ids` are those that the model made of a reply."""

    id: int
    role: Literal["system", "user", "assistant"]
    text: str
    ids: tuple[int, ...] | None
    created_at: datetime
    external_id: int | None


@dataclass(frozen=True)
class ReplyFacts:
    """What a reply was made with; the seed is in `sampling`."""

    model: str
    adapter: str | None
    num_prompt_tokens: int
    num_reply_tokens: int
    first_token_s: float | None
    total_s: float
    sampling: Mapping[str, float | int | None]
    finish: str | None


@dataclass(frozen=True)
class InboxRow:
    """An update that is not done: "new", or "answered" with the reply that is still to be delivered."""

    update_id: int
    chat: Chat
    user_id: int | None
    payload: str
    state: Literal["new", "answered"]
    reply: str | None
    reply_id: int | None  # the reply's message, if it is a turn
    attempts: int
    received_at: datetime
