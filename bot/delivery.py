"""Calls of the Bot API that are made until they succeed or can never: what each error means is decided here alone.

Always: 429 makes one chat wait, as long as Telegram says; 5xx, time-outs, cut connections, a stray 401 and pages that
are not JSON are tried again; 400 and 403 are final. A call whose answer was lost is made again: a message may arrive
twice, never not at all. (In python-telegram-bot BadRequest and TimedOut are NetworkErrors, and sends are not retried.)
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from telegram import Bot, InlineKeyboardMarkup, InputFile, ReplyParameters
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError

from bot.metrics import Metrics
from bot.pacing import Pacing
from bot.splitting import split
from training.dialogues import Chat

logger = logging.getLogger(__name__)
T = TypeVar("T")

GIVE_UP_S = 3600.0  # of failing without a 429 while Telegram answers: then something is wrong with this one message
SILENT_S = 90.0  # since Telegram last answered anything: then it is away
FLOOD_SLACK_S = 0.3


class Undeliverable(Exception):
    """Nothing can be delivered there: blocked, left, deleted, or refused; the class of Telegram's error is the text."""


class Delivery:
    """Sends to chats, each at its pace. `on_moved(old, new)` is told when a group got another id."""

    def __init__(
        self, bot: Bot, metrics: Metrics, on_moved: Callable[[int, int], None] = lambda old, new: None
    ) -> None:
        self.bot = bot
        self.pacing = Pacing()
        self.metrics = metrics
        self.on_moved = on_moved
        self._moved: dict[int, int] = {}

    async def send(
        self, chat: Chat, text: str, *, markup: Any = None, reply_to: int | None = None, silent: bool = False
    ) -> int:
        """Send a text in as many messages as it takes -> id of the last. `markup` stands under the last one."""
        parts = split(text)
        message_id = 0
        for i, part in enumerate(parts):
            under = markup if i == len(parts) - 1 else None
            message_id = await self._send_part(chat, part, under, reply_to if i == 0 else None, silent)
        return message_id

    async def _send_part(self, chat: Chat, text: str, markup: Any, reply_to: int | None, silent: bool) -> int:
        quote = ReplyParameters(reply_to, allow_sending_without_reply=True) if reply_to else None

        async def make(chat_id: int) -> int:
            sent = await self.bot.send_message(
                chat_id,
                text,
                message_thread_id=chat.thread_id or None,
                reply_markup=markup,
                reply_parameters=quote,
                disable_notification=silent,
            )
            return sent.message_id

        return await self.insist(chat.chat_id, make)

    async def replace(self, chat: Chat, message_id: int, text: str, markup: InlineKeyboardMarkup | None) -> int:
        """Put a text in the place of a message that was sent, the rest of a long one after it -> id of the last."""
        parts = split(text)
        first_markup = markup if len(parts) == 1 else None

        async def make(chat_id: int) -> int:
            await self.bot.edit_message_text(parts[0], chat_id, message_id, reply_markup=first_markup)
            return message_id

        try:
            await self.insist(chat.chat_id, make)
        except Undeliverable as error:
            if "not modified" not in str(error):
                return await self.send(chat, text, markup=markup)
        if len(parts) == 1:
            return message_id
        return await self.send(chat, "\n".join(parts[1:]), markup=markup)

    async def send_file(self, chat: Chat, name: str, content: bytes, caption: str) -> None:
        """Send a file."""

        async def make(chat_id: int) -> int:
            file = InputFile(content, filename=name)
            sent = await self.bot.send_document(
                chat_id, file, caption=caption, message_thread_id=chat.thread_id or None
            )
            return sent.message_id

        await self.insist(chat.chat_id, make)

    async def insist(self, chat_id: int, make: Callable[[int], Awaitable[T]]) -> T:
        """Make a call until it succeeds. Raises Undeliverable when it never will."""
        attempt, began = 0, time.monotonic()
        while True:
            now_id = self._moved.get(chat_id, chat_id)
            await self.pacing.wait(now_id)
            try:
                result = await make(now_id)
            except RetryAfter as error:
                self._flooded(now_id, error)
                began = time.monotonic()
            except ChatMigrated as error:
                self.moved(now_id, error.new_chat_id)
                self._moved[chat_id] = error.new_chat_id
            except (Forbidden, BadRequest) as error:
                raise self._refused(now_id, error) from None
            except TelegramError as error:
                self._failed(error)
                if not 0 <= self.metrics.poll_age() < SILENT_S:
                    began = time.monotonic()
                if time.monotonic() - began > GIVE_UP_S:
                    raise Undeliverable(type(error).__name__) from None
                await asyncio.sleep(backoff_s(attempt))
                attempt += 1
            else:
                self.metrics.calls.labels("ok").inc()
                return result

    async def try_once(self, chat_id: int, make: Callable[[int], Awaitable[T]]) -> T | None:
        """Make a call that may as well be left out, if there is room for it; None if it was not made.

        Raises Undeliverable if Telegram refused it.
        """
        now_id = self._moved.get(chat_id, chat_id)
        if not self.pacing.take(now_id):
            return None
        try:
            result = await make(now_id)
        except RetryAfter as error:
            self._flooded(now_id, error)
        except ChatMigrated as error:
            self.moved(now_id, error.new_chat_id)
        except (Forbidden, BadRequest, InvalidToken) as error:  # an old server answers 404 to a method it lacks
            raise self._refused(now_id, error) from None
        except TelegramError as error:
            self._failed(error)
        else:
            return result
        return None

    def where(self, chat: Chat) -> Chat:
        """The chat under the id that it has now."""
        now_id = self._moved.get(chat.chat_id, chat.chat_id)
        return chat if now_id == chat.chat_id else replace(chat, chat_id=now_id)

    def moved(self, old: int, new: int) -> None:
        """A group has another id from now on."""
        if self._moved.get(old) != new and old != new:
            logger.info("chat=%s is now chat=%s", old, new)
            self._moved[old] = new
            self.on_moved(old, new)

    def _flooded(self, chat_id: int, error: RetryAfter) -> None:
        seconds = seconds_of(error)
        self.pacing.flooded(chat_id, seconds + FLOOD_SLACK_S)
        self.metrics.calls.labels("flood").inc()
        logger.info("flood chat=%s wait_s=%.0f", chat_id, seconds)

    def _refused(self, chat_id: int, error: TelegramError) -> Undeliverable:
        self.metrics.calls.labels("refused").inc()
        reason = "not modified" if "not modified" in error.message.lower() else type(error).__name__
        if reason != "not modified":
            logger.info("refused chat=%s error=%s", chat_id, reason)
        return Undeliverable(reason)

    def _failed(self, error: TelegramError) -> None:
        self.metrics.calls.labels("failed").inc()
        logger.info("call failed error=%s, trying again", type(error).__name__)


def seconds_of(error: RetryAfter) -> float:
    """How long a 429 says to wait."""
    value = error.retry_after
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def backoff_s(attempt: int) -> float:
    """Seconds to wait before trying again: 0.5, 1, 2, ... 30, each a little different from bot to bot."""
    return min(30.0, 0.5 * 2.0 ** min(attempt, 10)) * random.uniform(0.8, 1.2)
