"""What the handlers of the Telegram bot share: settings, log, delivery, replies, and what is known of this run only."""

import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from telegram import User
from telegram.error import TelegramError

from bot.adapter_watch import AdapterWatch
from bot.database import Database
from bot.delivery import Delivery
from bot.inbox import Job
from bot.limits import Limits
from bot.metrics import Metrics
from bot.replies import Replies, Running
from bot.settings import Settings
from bot.training_process import TrainingProcess
from training.dialogues import Chat, DialogueLog

if TYPE_CHECKING:
    from bot.loading import Loaded

NEVER = datetime(2000, 1, 1, tzinfo=UTC)


class Dropped(Exception):
    """The job is not to be answered, now (the process ends: it stays stored) or ever (its text was erased)."""


@dataclass
class Context:
    """One bot at work."""

    settings: Settings
    me: User
    loaded: "Loaded"
    database: Database
    delivery: Delivery
    replies: Replies
    limits: Limits
    metrics: Metrics
    watch: AdapterWatch
    training: TrainingProcess
    running: dict[Chat, Running] = field(default_factory=dict)
    forgotten: dict[int, float] = field(default_factory=dict)  # user -> when they had all of theirs erased
    noticed: set[int] = field(default_factory=set)  # users who were shown the notice in this run
    told_at: dict[tuple[str, Chat], float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    is_ending: bool = False  # replies that are cut now are not kept: the next run makes them again

    @property
    def log(self) -> DialogueLog:
        return self.database.log

    async def say(self, job: Job, text: str, markup: Any = None) -> int:
        """Answer a job with a fixed text; after a crash in between the job is simply done again."""
        reply_to = None if job.incoming.is_private or job.incoming.kind == "button" else job.incoming.message_id
        return await self.delivery.send(job.chat, text, markup=markup, reply_to=reply_to)

    async def toast(self, job: Job, text: str = "") -> None:
        """Answer a pressed button; one that is too old to be answered is left."""
        with contextlib.suppress(TelegramError):
            await self.delivery.bot.answer_callback_query(job.incoming.callback_id, text or None)

    def was_forgotten(self, job: Job) -> bool:
        """True if the person had all of theirs erased after this job came."""
        return self.forgotten.get(job.incoming.user_id, -1.0) > job.arrived

    def is_first_time(self, kind: str, chat: Chat, every_s: float) -> bool:
        """True unless this chat was told this kind of thing within that time."""
        now = time.monotonic()
        if len(self.told_at) > 10_000:
            self.told_at.clear()
        if now - self.told_at.get((kind, chat), -every_s) < every_s:
            return False
        self.told_at[kind, chat] = now
        return True

    def is_admin(self, job: Job) -> bool:
        """Only a person whose id is listed, who typed it now: not in the name of a group, not forwarded, not edited."""
        incoming = job.incoming
        typed = incoming.kind == "message" and not incoming.is_forwarded
        return typed and incoming.is_person and incoming.user_id in self.settings.admin_ids
