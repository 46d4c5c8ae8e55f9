"""Updates between Telegram and their answers: stored before they are confirmed, in order within a chat, each once.

Always: `accept` returns after the update is committed, and waits as long as that is not possible (full disk, database
away); a number seen before is passed over; one conversation's jobs run one after another, those of different ones side
by side; what is not answered when the process ends is found again by `recover`.
"""

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from telegram import User

from bot.database import Database
from bot.incoming import Incoming, read
from bot.metrics import Metrics
from training.dialogues import Chat, InboxRow

logger = logging.getLogger(__name__)

MAX_WAITING = 1000  # then Telegram keeps what follows until there is room
MAX_PER_CHAT = 100  # what a chat sends beyond is told so at once
MAX_URGENT = 20  # of one chat at a time, likewise: each of them is answered at the chat's pace
MAX_ATTEMPTS = 10  # crashes over one update; then it is given up


@dataclass
class Job:
    """An update on its way to its answer."""

    incoming: Incoming
    reply: str | None = None  # stored by a run that ended before it was delivered
    reply_id: int | None = None
    is_recovered: bool = False  # a run before this one ended with it
    is_excess: bool = False  # the chat's queue was full
    arrived: float = field(default_factory=time.monotonic)

    @property
    def update_id(self) -> int:
        return self.incoming.update_id

    @property
    def chat(self) -> Chat:
        return self.incoming.chat


class Inbox:
    """Takes raw updates, runs `handle` on each; `is_urgent` ones do not wait for their chat's turn."""

    def __init__(
        self,
        database: Database,
        me: User,
        metrics: Metrics,
        handle: Callable[[Job], Awaitable[None]],
        is_urgent: Callable[[Incoming], bool],
    ) -> None:
        self.database, self.me, self.metrics = database, me, metrics
        self.handle, self.is_urgent = handle, is_urgent
        self._queues: dict[Chat, deque[Job]] = {}
        self._urgent: Counter[Chat] = Counter()
        self._in_line: set[int] = set()  # the numbers of jobs that wait or run
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Jobs that wait or run."""
        return self._waiting

    async def accept(self, raw: Any) -> None:
        """Store an update and put it in line; one that cannot be read, or is not for the bot, is counted and left."""
        try:
            incoming = read(raw, self.me)
        except Exception as error:
            self.metrics.updates.labels("unreadable").inc()
            logger.warning("update=%s cannot be read error=%s", update_id_of(raw), type(error).__name__)
            return
        if incoming is None:
            self.metrics.updates.labels("ignored").inc()
            return
        await self._room.wait()
        # Escaped: a lone surrogate cannot be stored, and the text must come back as it was.
        payload = json.dumps(raw, separators=(",", ":"))
        log = self.database.log
        chat, user_id = incoming.chat, incoming.user_id
        try:
            is_new = await self.database.insist(log.inbox_put, incoming.update_id, chat, user_id, payload)
        except (
            Exception
        ) as error:  # a number that no database can hold, for instance: one update must not stop the rest
            self.metrics.updates.labels("unreadable").inc()
            logger.warning("update=%s cannot be stored error=%s", incoming.update_id, type(error).__name__)
            return
        # A commit whose answer was lost with the connection is found done at the second try: then it is not in line.
        if not is_new and (
            incoming.update_id in self._in_line
            or not await self.database.insist(log.inbox_is_pending, incoming.update_id)
        ):
            self.metrics.updates.labels("repeated").inc()
            return
        self.metrics.updates.labels("accepted").inc()
        self._put(Job(incoming))

    async def recover(self) -> int:
        """Put in line what an earlier run left -> how many. To be called once, before the first `accept`."""
        rows = await self.database.insist(self.database.log.inbox_pending)
        for row in rows:
            try:
                job = self._job(row)
            except Exception as error:
                logger.warning("update=%s cannot be read again error=%s", row.update_id, type(error).__name__)
                self.metrics.updates.labels("unreadable").inc()
                await self.database.insist(self.database.log.inbox_done, row.update_id)
                continue
            self._put(job)
        if rows:
            logger.info("recovered updates=%d", len(rows))
        return len(rows)

    def _job(self, row: InboxRow) -> Job:
        incoming = read(json.loads(row.payload), self.me)
        if incoming is None:
            raise ValueError("not for the bot")
        incoming = replace(incoming, chat=row.chat)  # the group may have got another id since
        return Job(incoming, row.reply, row.reply_id, is_recovered=True)

    async def stop(self, finish_s: float, cut: Callable[[], None], deliver_s: float) -> bool:
        """Begin no more jobs; give the running ones so long, then `cut` replies short, then end what is left.

        True if nothing had to be ended.
        """
        self._stopping = True
        self._room.set()
        for seconds, then in ((finish_s, cut), (deliver_s, self._cancel)):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds)
            if not self._tasks:
                return True
            then()
        await asyncio.wait(self._tasks, timeout=1.0)
        return False

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _put(self, job: Job) -> None:
        if self._stopping:
            return  # it is stored: the next run finds it
        self._in_line.add(job.update_id)
        self._count(+1)
        queue = self._queues.get(job.chat)
        is_urgent = self.is_urgent(job.incoming)
        is_full = self._urgent[job.chat] >= MAX_URGENT if is_urgent else len(queue or ()) >= MAX_PER_CHAT
        job.is_excess = is_full and not job.is_recovered
        if job.is_excess:
            self._start(self._run(job))
        elif is_urgent:
            self._urgent[job.chat] += 1
            self._start(self._run_urgent(job))
        elif queue is None:
            self._queues[job.chat] = deque([job])
            self._start(self._in_order(job.chat))
        else:
            queue.append(job)

    async def _in_order(self, chat: Chat) -> None:
        queue = self._queues[chat]
        while queue and not self._stopping:
            await self._run(queue[0])
            queue.popleft()
        del self._queues[chat]

    async def _run_urgent(self, job: Job) -> None:
        try:
            await self._run(job)
        finally:
            self._urgent -= Counter({job.chat: 1})  # without what is zero

    async def _run(self, job: Job) -> None:
        try:
            if job.is_recovered and not await self._may_try_again(job):
                return
            await self.handle(job)
        except Exception:
            # `handle` lets nothing through; were it otherwise, the chat's next jobs would wait for ever.
            self.metrics.errors.labels("bug").inc()
            logger.exception("update=%s was left", job.update_id)
        finally:
            self._in_line.discard(job.update_id)
            self._count(-1)

    async def _may_try_again(self, job: Job) -> bool:
        """Count the attempt before it is made, so that a message that ends the process does so a few times only."""
        attempts = await self.database.insist(self.database.log.inbox_begin, job.update_id)
        if attempts <= MAX_ATTEMPTS:
            return True
        self.metrics.errors.labels("given_up").inc()
        logger.error("update=%s given up after attempts=%d", job.update_id, MAX_ATTEMPTS)
        await self.database.insist(self.database.log.inbox_failed, job.update_id, "the process ended", attempts)
        return False

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, change: int) -> None:
        self._waiting += change
        self.metrics.waiting.set(self._waiting)
        if self._waiting < MAX_WAITING or self._stopping:
            self._room.set()
        else:
            self._room.clear()


def update_id_of(raw: Any) -> int | None:
    """The number of an update, if it has one."""
    number = raw.get("update_id") if isinstance(raw, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None
