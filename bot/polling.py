"""Asking Telegram for updates: raw, stored one by one, confirmed by the next question; only a second bot ends it.

Always: an update is confirmed only after `accept` has stored it; a stray 401, a page that is not JSON, an outage or an
update that cannot be read delay or skip, and never end the polling. (python-telegram-bot's own loop confirms before
processing, ends at one 401, and does not get past an update that it cannot parse.)
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from telegram import Bot
from telegram.error import Conflict, InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from bot.delivery import backoff_s, seconds_of
from bot.errors import BotError
from bot.inbox import update_id_of
from bot.incoming import ALLOWED_UPDATES
from bot.metrics import Metrics

logger = logging.getLogger(__name__)

POLL_S = 25  # Telegram holds a question so long if there is nothing new
YOUNG_S = 120.0  # a bot that has just started is the one to leave if two ask
MAX_CONFLICTS = 4
SECOND_BOT = "another bot is running with this TELEGRAM_BOT_TOKEN; stop it, or get another token from @BotFather"
BAD_TOKEN = "Telegram refuses the TELEGRAM_BOT_TOKEN; copy it again from @BotFather"


class TelegramBot(Bot):
    """The Bot API, with updates as they come and no token in its repr."""

    def __repr__(self) -> str:
        return "TelegramBot[]"

    async def raw_updates(self, offset: int | None) -> list[Any]:
        """What getUpdates answers, not parsed. Raises TelegramError."""
        question: dict[str, Any] = {"timeout": POLL_S, "allowed_updates": ALLOWED_UPDATES}
        if offset is not None:
            question["offset"] = offset
        answer = await self._post("getUpdates", question, read_timeout=POLL_S + 10)
        if not isinstance(answer, list):
            raise TelegramError("getUpdates: not a list")
        return answer


def make_bot(token: str, base_url: str) -> TelegramBot:
    """A bot with time-outs that fit: an answer that takes 7 s is not lost, a call never hangs."""
    request = HTTPXRequest(
        connection_pool_size=256, read_timeout=30, write_timeout=20, connect_timeout=10, pool_timeout=60
    )
    polls = HTTPXRequest(connection_pool_size=2, read_timeout=POLL_S + 10, connect_timeout=10, pool_timeout=60)
    file_url = base_url.removesuffix("/bot") + "/file/bot"
    return TelegramBot(token, base_url=base_url, base_file_url=file_url, request=request, get_updates_request=polls)


async def connect(bot: Bot) -> None:
    """Ask who the bot is until Telegram answers. Raises BotError if it refuses the token three times."""
    attempt = refused = 0
    while True:
        try:
            await bot.initialize()
            return
        except InvalidToken:
            refused += 1
            if refused == 3:
                raise BotError(BAD_TOKEN) from None
        except TelegramError as error:
            logger.warning("Telegram cannot be reached error=%s, trying again", type(error).__name__)
        await asyncio.sleep(backoff_s(attempt))
        attempt += 1


class Poller:
    """The loop of questions; `run` returns only by an exception."""

    def __init__(self, bot: TelegramBot, accept: Callable[[Any], Awaitable[None]], metrics: Metrics) -> None:
        self.bot, self.accept, self.metrics = bot, accept, metrics
        self.began = time.monotonic()
        self._offset: int | None = None
        self._failures = self._conflicts = 0

    async def run(self) -> None:
        """Ask for ever. Raises BotError if another bot asks with the same token."""
        while True:
            try:
                updates = await asyncio.wait_for(self.bot.raw_updates(self._offset), POLL_S + 30)
            except (TelegramError, TimeoutError) as error:
                await self._failed(error)
                continue
            self.metrics.polled()
            self._failures = self._conflicts = 0
            await self._take(updates)

    async def _take(self, updates: list[Any]) -> None:
        if not updates:
            # All before is confirmed. After a quiet week Telegram's numbers begin anew, perhaps lower than ours.
            self._offset = None
        num_before = self._offset
        for raw in updates:
            await self.accept(raw)
            number = update_id_of(raw)
            if number is not None and 0 <= number < 2**62:
                self._offset = number + 1
        if updates and self._offset == num_before:
            await asyncio.sleep(1.0)  # nothing in it has a number to confirm: do not ask for it in a tight loop

    async def _failed(self, error: Exception) -> None:
        self.metrics.errors.labels("poll").inc()
        self._failures += 1
        wait_s = backoff_s(self._failures)
        if isinstance(error, RetryAfter):
            wait_s = seconds_of(error)
        elif isinstance(error, Conflict):
            wait_s = await self._conflict(error)
        logger.warning("getUpdates failed error=%s, again in %.1f s", type(error).__name__, wait_s)
        await asyncio.sleep(wait_s)

    async def _conflict(self, error: Conflict) -> float:
        """Seconds to wait. Two that ask take the answers from each other: the one that came later leaves."""
        if "webhook" in error.message.lower():
            try:
                await self.bot.delete_webhook()
            except TelegramError:
                logger.warning("the webhook cannot be taken away now")
            return 1.0
        self._conflicts += 1
        if self._conflicts >= MAX_CONFLICTS and time.monotonic() - self.began < YOUNG_S:
            raise BotError(SECOND_BOT)
        return min(30.0, 1.5 * self._conflicts)
