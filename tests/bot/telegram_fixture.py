"""The bot in a thread of the test's own process, against the emulator, with an engine that echoes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from bot.database import Database
from bot.metrics import Metrics
from bot.polling import connect, make_bot
from bot.settings import Settings
from bot.telegram_app import App
from tests.bot.reliability.echo_bot import load
from tests.emulator import Emulator
from training.dialogues import DialogueLog


class BotThread:
    """One bot, begun when made; `stop` ends it in order."""

    def __init__(self, telegram: Emulator, folder: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "telegram_bot_token": telegram.token,
            "telegram_base_url": telegram.base_url,
            "state_dir": folder,
            "messages_per_minute": 0,
            "health_port": 0,
            "log_level": "error",
        }
        self.settings = Settings(_env_file=None, **values | settings)
        self.log = DialogueLog(self.settings.log_url())
        self.metrics = Metrics()
        self.app: App | None = None
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    async def _run(self) -> None:
        settings = self.settings
        bot = make_bot(settings.telegram_bot_token.get_secret_value(), settings.telegram_base_url)
        await connect(bot)
        self.app = App(settings, bot, load(settings), Database(self.log, self.metrics), self.metrics)
        work = asyncio.create_task(self.app.work())
        self._ready.set()
        await self._ended.wait()
        work.cancel()
        await asyncio.wait({work})
        await self.app.end()
        self.app.database.close()
        await bot.shutdown()

    def stop(self) -> None:
        """End it as SIGTERM does."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(30)
            assert not self._thread.is_alive()
            self._loop.close()
