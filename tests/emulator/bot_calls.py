"""Calls of the Bot API from a test, through python-telegram-bot itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from telegram import Bot

from tests.emulator import Emulator


def with_bot(telegram: Emulator, do: Callable[[Bot], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Bot(telegram.token, base_url=telegram.base_url) as bot:
            return await do(bot)

    return asyncio.run(run())
