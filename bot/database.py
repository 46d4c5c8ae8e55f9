"""The log of dialogues from asyncio: its calls run in threads of their own, and wait out a full disk.

Always: a call that cannot be stored now is made again until it is (`insist`); any other failure is a bug and is raised.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from bot.metrics import Metrics
from training.dialogues import DialogueLog
from training.errors import LogError

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

LONGEST_WAIT_S = 5.0
SAY_EVERY_S = 10.0  # however many calls wait


class Database:
    """A DialogueLog for coroutines."""

    def __init__(self, log: DialogueLog, metrics: Metrics) -> None:
        self.log = log
        self.metrics = metrics
        self._said_at = -SAY_EVERY_S
        self.pool = ThreadPoolExecutor(8, thread_name_prefix="log")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the log in a thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: function(*args, **kwargs))

    async def insist(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same until it can be done; the wait can be cancelled."""
        wait_s = 0.2
        while True:
            try:
                return await self.call(function, *args, **kwargs)
            except LogError as error:
                self.metrics.errors.labels("log").inc()
                if time.monotonic() - self._said_at > SAY_EVERY_S:
                    self._said_at = time.monotonic()
                    logger.error("the log cannot be used now, trying again: %s", error)  # its text quotes no row
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

    def close(self) -> None:
        """Let the running calls end, then close the log."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.log.close()
