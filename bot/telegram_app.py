"""The Telegram bot put together: started, watched, ended in good order.

Always: what takes updates is begun again whatever ends it, but for a second bot; at the end no new work begins, what
can be finished is, and the rest is stored for the next run.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from telegram import BotCommand, BotCommandScopeChat
from telegram.error import BadRequest, TelegramError

from bot import texts_es as es
from bot.adapter_watch import AdapterWatch
from bot.context import Context
from bot.database import Database
from bot.delivery import Delivery, Undeliverable
from bot.errors import BotError
from bot.handlers import handle, is_urgent
from bot.handlers_training import tell_trainings
from bot.health import serve_webhook
from bot.inbox import Inbox
from bot.incoming import ALLOWED_UPDATES, PLATFORM
from bot.limits import Limits
from bot.loading import Loaded
from bot.metrics import Metrics
from bot.polling import Poller, TelegramBot
from bot.replies import Replies
from bot.settings import Settings
from bot.tasks import TASKS
from bot.training_process import TrainingProcess
from training.dialogues import Chat
from training.errors import LogError

logger = logging.getLogger(__name__)

FINISH_S = 9.0  # after SIGTERM, for replies to be finished
DELIVER_S = 5.0  # then, for what is made to be delivered
KEEP_NUMBERS = timedelta(days=7)


class App:
    """The parts, wired; `work` runs until it is cancelled, `end` stores what is left."""

    def __init__(
        self, settings: Settings, bot: TelegramBot, loaded: Loaded, database: Database, metrics: Metrics
    ) -> None:
        self.settings, self.bot, self.database, self.metrics = settings, bot, database, metrics
        self.context = Context(
            settings=settings,
            me=bot.bot,
            loaded=loaded,
            database=database,
            delivery=Delivery(bot, metrics, self._moved),
            replies=Replies(loaded.service),
            limits=Limits(settings),
            metrics=metrics,
            watch=AdapterWatch(settings, database, loaded.adapters),
            training=TrainingProcess(settings),
        )
        self.inbox = Inbox(database, bot.bot, metrics, partial(handle, self.context), is_urgent)
        self._background: set[asyncio.Task[Any]] = set()
        self._notice: str | None = None
        metrics.watch(loaded.service.engine)

    async def work(self) -> None:
        """Answer what an earlier run left, then what comes."""
        await self.inbox.recover()
        self._start(self._register_commands())
        self._start(self._keep_house())
        self._start(self.context.watch.run())
        self._start(tell_trainings(self.context))
        logger.info("running as bot=%s by %s", self.bot.id, "webhook" if self.settings.webhook_url else "polling")
        await (self._take_calls() if self.settings.webhook_url else self._poll())

    async def _poll(self) -> None:
        """Poll; whatever ends it but a second bot, begin again."""
        poller = Poller(self.bot, self.inbox.accept, self.metrics)
        while True:
            try:
                await self.bot.delete_webhook()
            except TelegramError as error:
                logger.warning("deleteWebhook failed error=%s", type(error).__name__)
            try:
                await poller.run()
            except BotError:
                raise
            except Exception:
                self.metrics.errors.labels("poll_ended").inc()
                logger.exception("polling ended, beginning again")
                await asyncio.sleep(1.0)

    async def _take_calls(self) -> None:
        """Be called by Telegram; say so again if it forgot."""
        settings = self.settings
        secret = settings.webhook_secret.get_secret_value() or secrets.token_urlsafe(32)
        url = settings.webhook_url
        server = serve_webhook(
            url, settings.webhook_listen, settings.webhook_port, secret, self.inbox.accept, self.metrics
        )
        try:
            is_set = False
            while True:
                try:
                    info = await self.bot.get_webhook_info()
                    if not is_set or info.url != url:
                        is_set = await self.bot.set_webhook(url, allowed_updates=ALLOWED_UPDATES, secret_token=secret)
                    self.metrics.polled()
                except TelegramError as error:
                    self.metrics.errors.labels("poll").inc()
                    why = f": {error.message}" if isinstance(error, BadRequest) else ""  # Telegram's words on the URL
                    logger.warning("the webhook cannot be set or checked error=%s%s", type(error).__name__, why)
                await asyncio.sleep(30.0 if is_set else 3.0)
        finally:
            server.stop()
            await server.close_all_connections()

    async def _register_commands(self) -> None:
        """Tell Telegram the commands; to an admin who never wrote to the bot it cannot be done."""
        everyone = {**es.COMMANDS, **{name: task.about for name, task in TASKS.items()}}
        await self._register(everyone, None)
        for user_id in self.settings.admin_ids:
            await self._register({**everyone, **es.ADMIN_COMMANDS}, BotCommandScopeChat(user_id))

    async def _register(self, commands: Mapping[str, str], scope: BotCommandScopeChat | None) -> None:
        async def make(_: int) -> bool:
            return await self.bot.set_my_commands([BotCommand(*pair) for pair in commands.items()], scope=scope)

        try:
            await self.context.delivery.insist(self.bot.id if scope is None else int(scope.chat_id), make)
        except Undeliverable as error:
            logger.info("commands are not registered error=%s", error)

    async def _keep_house(self) -> None:
        """Delete what is past its time, a minute after the start and then every six hours; tell admins of damage."""
        for minute in itertools.count():
            await self._tell_damage()
            await asyncio.sleep(60.0)
            if minute % 360 == 0:
                await self._purge()

    async def _purge(self) -> None:
        now, log = datetime.now(UTC), self.database.log
        try:
            purged = await self.database.call(log.purge, now - timedelta(days=self.settings.retention_days))
            cleaned = await self.database.call(log.inbox_clean, now - KEEP_NUMBERS)
        except (LogError, OSError) as error:  # OSError: a damaged file that was set aside and cannot be deleted
            logger.warning("nothing is purged this time: %s", error)
        else:
            logger.info("purged messages=%d update_numbers=%d", purged, cleaned)

    async def _tell_damage(self) -> None:
        notice = self.database.log.notice
        if notice is None or notice == self._notice:
            return
        self._notice = notice
        logger.error("%s", notice)
        for user_id in self.settings.admin_ids:
            with contextlib.suppress(Undeliverable):
                await self.context.delivery.send(Chat(PLATFORM, user_id), es.LOG_DAMAGED.format(notice=notice))

    def _moved(self, old: int, new: int) -> None:
        self._start(self.database.insist(self.database.log.move_chat, PLATFORM, old, new))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def end(self) -> None:
        """Finish what can be finished in time; the rest is stored already."""
        logger.info("ending updates=%d", self.inbox.waiting)
        for task in self._background:
            task.cancel()
        finished = await self.inbox.stop(FINISH_S, self._cut, DELIVER_S)
        self.context.replies.close()
        logger.info("ended in order=%s left for the next run=%d", finished, self.inbox.waiting)

    def _cut(self) -> None:
        """Stop the replies in the making; they are not kept."""
        self.context.is_ending = True
        for running in self.context.running.values():
            running.cancel.set()
