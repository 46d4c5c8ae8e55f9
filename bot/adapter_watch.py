"""What the bot does about adapters beside replying: takes up promotions, ends bad trials, marks what is forgotten.

Always: whatever fails here is logged and tried again later; no reply waits for it.
"""

import asyncio
import contextlib
import logging
import time

from bot.adapters import EVERY_S, ServedAdapters, forget_taken_back
from bot.database import Database
from bot.settings import Settings
from training.errors import TrainingError
from training.registry import Registry
from training.registry.canary import watch

logger = logging.getLogger(__name__)

TRIAL_EVERY_S = 30.0  # the log is asked how a trial goes
FORGOTTEN_EVERY_S = 300.0  # it is asked what was taken back by others than this bot
AFTER_FAILURE_S = 10.0


class AdapterWatch:
    """Runs beside a bot; `forgot` is set when somebody has taken something back."""

    def __init__(self, settings: Settings, database: Database, served: ServedAdapters | None) -> None:
        self.settings = settings
        self.database = database
        self.served = served  # None: the settings pin an adapter
        self.registry = Registry(settings.adapters_dir)
        self.forgot = asyncio.Event()
        self._tried_at = self._marked_at = float("-inf")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            wait_s = EVERY_S
            try:
                await self._look()
            except (TrainingError, OSError) as error:
                logger.warning("adapters: %s", error)
                wait_s = AFTER_FAILURE_S
            except Exception:
                logger.exception("the watch over adapters failed")
                wait_s = AFTER_FAILURE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.forgot.wait(), wait_s)

    async def _look(self) -> None:
        now = time.monotonic()
        if self.served is not None:
            await asyncio.to_thread(self.served.refresh)
        if now - self._tried_at > TRIAL_EVERY_S:
            self._tried_at = now
            await self._end_trial()
        if self.forgot.is_set() or now - self._marked_at > FORGOTTEN_EVERY_S:
            self._marked_at = float("-inf")  # until it is done
            self.forgot.clear()
            await self._mark()
            self._marked_at = now

    async def _end_trial(self) -> None:
        shown = await self.database.call(watch, self.registry, self.database.log)
        if shown is not None:
            logger.warning("the candidate is rolled back: %s", shown)

    async def _mark(self) -> None:
        marked = await self.database.call(forget_taken_back, self.settings, self.database.log)
        if marked:
            logger.warning("adapters trained on what was taken back: %s", ", ".join(marked))
        if self.served is not None:
            await asyncio.to_thread(self.served.refresh)
