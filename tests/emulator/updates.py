"""The queue of updates for getUpdates and the webhook: kept until confirmed, at most 24 hours.

Offsets as Telegram's: an update is confirmed when getUpdates is called with a higher offset; a negative offset counts
from the end and forgets the rest; a second poll ends the first with 409.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.emulator.http_server import Request
from tests.emulator.parameters import ApiError, Parameters

LIFETIME_S = 24 * 3600
NOT_BY_DEFAULT = {"chat_member", "message_reaction", "message_reaction_count"}
ONE_POLLER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)


class Updates:
    def __init__(self, changed: Callable[[], None]) -> None:
        self.webhook_url = ""
        self.held = False
        self.confirmed: dict[int, float] = {}  # update_id -> when, monotonic
        self._changed = changed
        self._next_id = 700_000_001
        self._waiting: dict[int, dict[str, Any]] = {}  # not confirmed, in order
        self._all: dict[int, tuple[float, dict[str, Any]]] = {}
        self._again: list[dict[str, Any]] = []
        self._allowed: list[str] = []
        self._poll: asyncio.Future[str] | None = None  # the poll that waits; its result is why it must end
        self._news: set[asyncio.Event] = set()

    def put(self, fields: dict[str, Any]) -> int:
        """Queue an update; one of a type that the bot does not want is dropped, as Telegram does."""
        update_id = self._next_id
        self._next_id += 1
        update = {"update_id": update_id} | fields
        kind = next(iter(fields), "")
        wanted = kind in self._allowed if self._allowed else kind not in NOT_BY_DEFAULT
        if wanted:
            self._waiting[update_id] = update
            self._all[update_id] = (time.monotonic(), update)
            self.wake()
        return update_id

    def allow(self, allowed: list[str] | None) -> None:
        if allowed is not None:
            self._allowed = allowed

    def again(self, update_id: int) -> None:
        """Hand out this update once more, whatever was confirmed."""
        self._again.append(self._all[update_id][1])
        self.wake()

    def forget_confirmed(self) -> None:
        """As if no confirmation had ever arrived."""
        self._waiting = {update_id: update for update_id, (_, update) in sorted(self._all.items())}

    def confirm(self, update_id: int) -> None:
        if self._waiting.pop(update_id, None) is not None:
            self.confirmed[update_id] = time.monotonic()
            self._changed()

    def pending(self) -> list[dict[str, Any]]:
        """Updates to deliver now, oldest first."""
        if self.held:
            return []
        oldest = time.monotonic() - LIFETIME_S
        for update_id in [i for i in self._waiting if self._all[i][0] < oldest]:
            del self._waiting[update_id]
        return [*self._again, *self._waiting.values()]

    def num_pending(self) -> int:
        return len(self._waiting)

    def delivered_again(self, updates: list[dict[str, Any]]) -> None:
        self._again = [update for update in self._again if not any(update is other for other in updates)]

    def drop_pending(self) -> None:
        self._waiting.clear()

    def wake(self) -> None:
        for event in self._news:
            event.set()
        self._changed()

    async def wait_news(self, timeout_s: float) -> None:
        """Return when something was put, or after the time."""
        event = asyncio.Event()
        self._news.add(event)
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            pass
        finally:
            self._news.discard(event)

    @property
    def polling(self) -> bool:
        return self._poll is not None and not self._poll.done()

    def end_poll(self, why: str) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(why)

    async def poll(self, request: Request, params: Parameters) -> list[dict[str, Any]]:
        """getUpdates. Raises 409 to the first of two pollers, and to any while a webhook is set."""
        if self.webhook_url:
            raise ApiError(409, WEBHOOK_ACTIVE)
        self.end_poll(ONE_POLLER)
        taken_over = self._poll = asyncio.get_running_loop().create_future()
        self.allow(params.json("allowed_updates"))
        self._confirm_below(params.int("offset"))
        limit = min(max(params.int("limit", 100), 1), 100)
        end = time.monotonic() + min(max(params.int("timeout"), 0), 50)
        while True:
            ready = self.pending()[:limit]
            if ready:
                self.delivered_again(ready)
                break
            left = end - time.monotonic()
            if left <= 0 or request.gone.is_set():
                break
            await self._wait(left, request, taken_over)
            if taken_over.done():
                raise ApiError(409, taken_over.result())
        if self._poll is taken_over:
            self._poll = None
        return ready

    async def _wait(self, left: float, request: Request, taken_over: asyncio.Future[str]) -> None:
        tasks = [asyncio.create_task(self.wait_news(left)), asyncio.create_task(request.gone.wait())]
        await asyncio.wait([*tasks, taken_over], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _confirm_below(self, offset: int) -> None:
        if offset < 0:
            keep = list(self._waiting)[offset:]
            offset = keep[0] if keep else 0
        for update_id in [i for i in self._waiting if i < offset]:
            self.confirm(update_id)
