"""The commands that everybody has. Each answers with one short text; what it changes is in the log, not in memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

from bot import texts_es as es
from bot.context import Context
from bot.handlers_chat import consent_buttons, repeat
from bot.inbox import Job
from bot.replies import owner_of
from bot.report import describe
from bot.tasks import TASKS

Command = Callable[[Context, Job], Awaitable[object]]

PERSONA_LIMIT = 1000
MOODS = {"calm": 0.2, "normal": None, "lively": 1.0}  # temperatures; None: the model's own
LENGTHS = {"short": 40, "normal": None, "long": 400}  # tokens


async def start(context: Context, job: Job) -> None:
    await context.say(job, es.WELCOME_TELEGRAM)
    if job.incoming.is_person:
        notice = es.CONSENT.format(days=context.settings.retention_days)
        await context.delivery.send(job.chat, notice, markup=consent_buttons())
        context.noticed.add(job.incoming.user_id)


async def show_help(context: Context, job: Job) -> None:
    text = es.HELP_TELEGRAM.format(
        commands=_lines(es.COMMANDS), tasks=_lines({name: task.about for name, task in TASKS.items()})
    )
    if not job.incoming.is_private:
        text += f"\n\n{es.HELP_IN_GROUPS}"
    if context.is_admin(job):
        text += f"\n\n{es.HELP_ADMIN}\n{_lines(es.ADMIN_COMMANDS)}"
    await context.say(job, text)


async def new(context: Context, job: Job) -> None:
    await context.database.insist(context.log.new_conversation, job.chat)
    await context.say(job, es.NEW_CONVERSATION_TELEGRAM)


async def stop(context: Context, job: Job) -> None:
    await context.say(job, es.STOPPING if stop_reply(context, job) else es.NOTHING_TO_STOP)


def stop_reply(context: Context, job: Job) -> bool:
    """Stop what the chat is being told; False if that is nothing."""
    running = context.running.get(job.chat)
    if running is None or running.cancel.is_set():
        return False
    running.cancel.set()
    return True


async def undo(context: Context, job: Job) -> None:
    answers = (es.UNDONE_TELEGRAM, es.NOTHING_TO_UNDO)
    undo_last, update_id = context.log.undo, job.update_id
    # With its answer in one transaction: a second try after a crash must not take back one turn more.
    was_there = await context.database.insist(undo_last, job.chat, update_id=update_id, answers=answers)
    context.watch.forgot.set()
    await context.say(job, answers[0] if was_there else answers[1])


async def persona(context: Context, job: Job) -> None:
    text, log = job.incoming.text, context.log
    if not text:
        now = await context.database.insist(log.system, job.chat) or context.settings.system
        await context.say(job, es.PERSONA_IS.format(text=now) if now else es.NO_PERSONA)
    elif len(text) > PERSONA_LIMIT:
        await context.say(job, es.PERSONA_TOO_LONG.format(limit=PERSONA_LIMIT))
    else:
        text = "" if text == "-" else text
        await context.database.insist(log.set_system, job.chat, text, user_id=job.incoming.user_id)
        await context.say(job, es.PERSONA_SET.format(text=text) if text else es.PERSONA_GONE)


async def preferences(context: Context, job: Job) -> None:
    await context.say(job, *preferences_page(await context.database.insist(context.log.preferences, job.chat)))


def preferences_page(values: dict[str, float | int]) -> tuple[str, InlineKeyboardMarkup]:
    """What /ajustes shows: a text, and buttons for each choice with the one that holds marked."""
    mood = next((name for name, value in MOODS.items() if value == values.get("temperature")), "normal")
    length = next((name for name, value in LENGTHS.items() if value == values.get("max_new_tokens")), "normal")
    text = es.SETTINGS_ARE.format(
        mood=es.SETTINGS_MOOD.format(name=es.MOODS[mood]), length=es.SETTINGS_LENGTH.format(name=es.LENGTHS[length])
    )
    rows = [
        [
            InlineKeyboardButton(
                es.SETTING_CHOSEN.format(name=name) if key == now else name, callback_data=f"{of}:{key}"
            )
            for key, name in names.items()
        ]
        for of, names, now in (("mood", es.MOODS, mood), ("length", es.LENGTHS, length))
    ]
    return text, InlineKeyboardMarkup(rows)


async def consent(context: Context, job: Job) -> None:
    if not job.incoming.is_person:
        await context.say(job, es.ONLY_PEOPLE)
        return
    await context.database.insist(context.log.set_consent, job.incoming.user_id, True)
    await context.say(job, es.CONSENT_GIVEN)


async def withdraw(context: Context, job: Job) -> None:
    await context.database.insist(context.log.set_consent, job.incoming.user_id, False)
    context.watch.forgot.set()
    await context.say(job, es.CONSENT_WITHDRAWN)


async def my_data(context: Context, job: Job) -> None:
    if not job.incoming.is_private:
        await context.say(job, es.YOUR_DATA_IN_PRIVATE)
        return
    data = await context.database.insist(context.log.export_user, job.incoming.user_id)
    content = json.dumps(data, ensure_ascii=False, indent=2, default=str).encode("utf-8", errors="replace")
    await context.delivery.send_file(job.chat, "mis-datos.json", content, es.YOUR_DATA)


async def forget(context: Context, job: Job) -> None:
    """Asks first; the button names who asked, so that nobody else's press counts."""
    if not job.incoming.is_person:
        await context.say(job, es.ONLY_PEOPLE)
        return
    buttons = [
        InlineKeyboardButton(text, callback_data=f"forget:{what}:{job.incoming.user_id}")
        for text, what in ((es.BUTTON_FORGET, "yes"), (es.BUTTON_KEEP, "no"))
    ]
    await context.say(job, es.FORGET_SURE, InlineKeyboardMarkup([buttons]))


async def show_version(context: Context, job: Job) -> None:
    described = await asyncio.to_thread(describe, context.loaded, owner_of(job.chat))
    await context.say(job, es.VERSION_IS.format(version=version("tertulia"), model=described))


def _lines(commands: dict[str, str]) -> str:
    return "\n".join(f"/{name} – {about}" for name, about in commands.items())


COMMANDS: dict[str, Command] = {
    "start": start,
    "ayuda": show_help,
    "help": show_help,
    "nueva": new,
    "parar": stop,
    "repetir": repeat,
    "deshacer": undo,
    "personaje": persona,
    "ajustes": preferences,
    "consentir": consent,
    "retirar": withdraw,
    "misdatos": my_data,
    "olvidar": forget,
    "version": show_version,
}
