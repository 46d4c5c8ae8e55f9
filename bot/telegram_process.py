"""The process of the Telegram bot: one a token, with signals, a log without secrets, and an end within 20 s.

Always: nothing is asked of Telegram before the dialogue log is open and the model loaded; SIGTERM is obeyed at any
moment, also while the model loads.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from telegram.error import TelegramError

from bot.database import Database
from bot.errors import BotError
from bot.health import serve_health
from bot.loading import Loaded, load_in_background
from bot.metrics import Metrics
from bot.polling import BAD_TOKEN, SECOND_BOT, TelegramBot, connect, make_bot
from bot.redaction import set_up_redacted_logging
from bot.settings import Settings
from bot.telegram_app import App
from training.dialogues import DialogueLog

logger = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run the bot until it is told to end -> exit code. Raises BotError and what loading or the log raise."""
    token = settings.telegram_bot_token.get_secret_value()
    if not token:
        raise BotError("TELEGRAM_BOT_TOKEN is not set: get one from @BotFather and put it into .env; see .env.example")
    if ":" not in token or not token.partition(":")[0].isdigit() or any(char.isspace() for char in token):
        raise BotError(f"{BAD_TOKEN} (it has the form 123456789:letters)")
    level = settings.log_level if "log_level" in settings.model_fields_set else "info"
    set_up_redacted_logging(level, [token, settings.webhook_secret.get_secret_value(), settings.database_url])
    with only_instance(settings, token):
        code = asyncio.run(serve(settings, token))
    if any(thread.name.startswith(("reply", "load")) for thread in threading.enumerate()):
        # A thread in the middle of a forward pass, or of loading: an orderly exit would wait for it.
        sys.stderr.flush()
        os._exit(code)
    return code


@contextlib.contextmanager
def only_instance(settings: Settings, token: str) -> Iterator[None]:
    """Hold the token's lock in the state folder. Raises BotError if another bot has it."""
    folder = settings.state_dir.expanduser()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"telegram-{hashlib.sha256(token.encode()).hexdigest()[:12]}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BotError(SECOND_BOT) from None
        yield


async def serve(settings: Settings, token: str) -> int:
    """Everything between the first log line and the last."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    pages = serve_health(settings.health_port, metrics) if settings.health_port else None
    bot = make_bot(token, settings.telegram_base_url)
    database = Database(DialogueLog(settings.log_url()), metrics)
    app: App | None = None
    try:
        loaded = await _or_stopped(_prepare(settings, bot), stop)
        if loaded is not None:
            app = App(settings, bot, loaded, database, metrics)
            await _or_stopped(app.work(), stop)
    finally:
        if pages is not None:
            pages.stop()
        if app is not None:
            await app.end()
        await asyncio.to_thread(database.close)
        with contextlib.suppress(TelegramError, asyncio.TimeoutError):
            await asyncio.wait_for(bot.shutdown(), 2.0)
    logger.info("ended")
    return 0


async def _prepare(settings: Settings, bot: TelegramBot) -> Loaded:
    """Load the model while Telegram is asked whose token it is."""
    loading = asyncio.wrap_future(load_in_background(settings))
    connecting = asyncio.create_task(connect(bot))
    both: list[asyncio.Future[Any]] = [loading, connecting]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        if connecting.done():
            connecting.result()
        return await asyncio.shield(loading)  # its thread would find its future cancelled
    finally:
        connecting.cancel()


async def _or_stopped(work: Coroutine[Any, Any, Any], stop: asyncio.Event) -> Any:
    """The result of the work, or None if the bot was told to end before."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=2.0)
    return None
