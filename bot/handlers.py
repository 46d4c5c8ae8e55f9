"""What becomes of each update: the rules that hold for all, then the table of commands, buttons or the conversation.

Always: every job ends done, failed, or stored for the next run; an error of ours is told to the person in a sentence
and to the log without a text.
"""

import logging
from dataclasses import replace

from telegram.error import TelegramError

from bot import handlers_admin, handlers_buttons, handlers_chat, handlers_commands
from bot import texts_es as es
from bot.context import Context, Dropped
from bot.delivery import Undeliverable
from bot.inbox import Job
from bot.incoming import PLATFORM, Incoming
from bot.limits import is_old, today
from bot.splitting import is_visible
from bot.tasks import TASKS

logger = logging.getLogger(__name__)

OLD_S = 3600.0  # what was written longer ago is not answered one by one
# Never refused by a limit, and carried out however old they are.
ALWAYS = {"parar", "olvidar", "retirar"}


def is_urgent(incoming: Incoming) -> bool:
    """What does not wait for the chat's turn: stopping, and buttons that do not change the conversation."""
    if incoming.kind == "button":
        return not incoming.text.startswith(handlers_buttons.IN_ORDER)
    return incoming.kind == "message" and incoming.command == "parar" and not incoming.is_forwarded


async def handle(context: Context, job: Job) -> None:
    """Answer one job and close it."""
    log, insist = context.log, context.database.insist
    try:
        if context.was_forgotten(job):
            return
        job.incoming = replace(job.incoming, chat=context.delivery.where(job.chat))
        if job.reply is not None:
            await handlers_chat.deliver_stored(context, job)
        else:
            await _answer(context, job)
    except Dropped:
        return
    except Undeliverable as error:
        logger.info("update=%s cannot be delivered error=%s", job.update_id, error)
        context.metrics.errors.labels("undeliverable").inc()
    except Exception as error:
        logger.exception("update=%s failed", job.update_id)
        context.metrics.errors.labels("bug").inc()
        await _apologise(context, job)
        await insist(log.inbox_failed, job.update_id, type(error).__name__, 1)
        return
    await insist(log.inbox_done, job.update_id)


async def _apologise(context: Context, job: Job) -> None:
    try:
        await context.say(job, es.FAILED)
    except (Undeliverable, TelegramError):
        logger.info("update=%s nor can the apology be delivered", job.update_id)


async def _answer(context: Context, job: Job) -> None:
    incoming = job.incoming
    if incoming.kind == "moved":
        context.delivery.moved(incoming.chat.chat_id, incoming.moved_to)
        await context.database.insist(context.log.move_chat, PLATFORM, incoming.chat.chat_id, incoming.moved_to)
        return
    if not context.limits.is_allowed(incoming):
        if incoming.kind == "button":
            await context.toast(job)
        elif incoming.is_private and context.is_first_time("private", job.chat, OLD_S):
            await context.say(job, es.PRIVATE_BOT.format(user_id=incoming.user_id))
        return
    if await context.database.insist(context.log.blocked, incoming.user_id) and not context.is_admin(job):
        return
    if incoming.kind == "message" and incoming.command not in ALWAYS and is_old(incoming.date, OLD_S):
        if context.is_first_time("away", job.chat, OLD_S):
            await context.say(job, es.WAS_AWAY)
        return
    if job.is_excess:
        if incoming.kind == "button":
            await context.toast(job)
        elif context.is_first_time("excess", job.chat, 60.0):
            await context.say(job, es.TOO_MANY)
        return
    costs = incoming.kind != "button" or incoming.text.startswith("again:")
    if costs and incoming.command not in ALWAYS and not await _is_in_limits(context, job):
        return
    await _route(context, job)


async def _route(context: Context, job: Job) -> None:
    incoming = job.incoming
    if incoming.kind == "button":
        await handlers_buttons.press(context, job)
    elif incoming.kind == "edit":
        if incoming.command is None and incoming.text:
            await handlers_chat.ask_again(context, job)
        elif incoming.command in es.ADMIN_COMMANDS:
            await context.say(job, es.ADMIN_ONLY)
    elif incoming.media is not None:
        if not incoming.album or context.is_first_time(f"album {incoming.album}", job.chat, OLD_S):
            await context.say(job, es.NOT_TEXT.get(incoming.media, es.NOT_TEXT_ELSE))
    elif incoming.command is not None:
        await _command(context, job, incoming.command)
    elif handlers_buttons.is_correction(incoming):
        await handlers_buttons.correct(context, job)
    elif not is_visible(incoming.text):
        await context.say(job, es.EMPTY_MESSAGE)
    else:
        await handlers_chat.converse(context, job)


async def _command(context: Context, job: Job, name: str) -> None:
    if name in handlers_admin.COMMANDS:
        allowed = context.is_admin(job)
        await (handlers_admin.COMMANDS[name](context, job) if allowed else context.say(job, es.ADMIN_ONLY))
    elif job.incoming.is_forwarded:
        await context.say(job, es.FORWARDED_COMMAND)
    elif name in TASKS:
        await handlers_chat.do_task(context, job, TASKS[name])
    elif name in handlers_commands.COMMANDS:
        await handlers_commands.COMMANDS[name](context, job)
    elif job.incoming.is_private:
        await context.say(job, es.UNKNOWN_COMMAND_TELEGRAM)


async def _is_in_limits(context: Context, job: Job) -> bool:
    limits, user_id = context.limits, job.incoming.user_id
    if job.is_recovered:
        return True
    if limits.needs_count(user_id):
        limits.set_count(user_id, await context.database.insist(context.log.count_since, user_id, today()))
    refusal = limits.refuse(user_id, job.incoming.date)
    if refusal is None:
        return True
    text = es.TOO_FAST.format(seconds=refusal.wait_s) if refusal.kind == "fast" else es.ENOUGH_TODAY
    if job.incoming.kind == "button":
        await context.toast(job, text)
    elif limits.is_first_time(user_id, refusal):
        await context.say(job, text)
    return False
