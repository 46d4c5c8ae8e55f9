"""How the tests of commands talk to the bot, and to whom."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.bot.telegram_fixture import BotThread
from tests.emulator import Chat, Emulator, Sent, User
from training.dialogues import Chat as LogChat

Start = Callable[..., BotThread]


def ask(telegram: Emulator, chat: Chat, user: User | None, text: str | None, count: int = 1, **extra: object) -> Sent:
    """Say something and wait for so many messages of the bot -> the last one."""
    before = len(telegram.sent(chat))
    telegram.say(chat, user, text, **extra)
    telegram.wait_for(lambda: len(telegram.sent(chat)) >= before + count, 30)
    return telegram.sent(chat)[before + count - 1]


def message_of(chat: Chat, user: User, **fields: object) -> dict[str, object]:
    """A message as Telegram writes it, of a kind that the emulator has no words for."""
    now = int(time.time())
    return {"message_id": 999, "date": now, "edit_date": now, "chat": chat.as_json(), "from": user.as_json(), **fields}


def key(chat: Chat) -> LogChat:
    return LogChat("telegram", chat.id)
