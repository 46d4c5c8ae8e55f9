"""Buttons under messages, and the correction that one of them asks for.

Always: what a button says it is about is checked against the chat it was pressed in, since any client can press
anything; a button too old to be answered still does its work.
"""

import re
from collections.abc import Awaitable, Callable

from telegram import ForceReply

from bot import texts_es as es
from bot.context import Context
from bot.delivery import Undeliverable
from bot.handlers_chat import repeat
from bot.handlers_commands import LENGTHS, MOODS, preferences_page, stop_reply
from bot.inbox import Job
from bot.incoming import Incoming

Press = Callable[[Context, Job, str], Awaitable[None]]

IN_ORDER = ("again:", "forget:yes")  # these wait for the chat's turn
_ASKED = re.compile(re.escape(es.CORRECT_HOW).replace(re.escape("{reply_id}"), r"(\d{1,18})"))


async def press(context: Context, job: Job) -> None:
    """Do what a button says; data that none of ours has is only answered."""
    what, _, about = job.incoming.text.partition(":")
    act = BUTTONS.get(what)
    if act is None:
        await context.toast(job)
    else:
        await act(context, job, about)


async def _stop(context: Context, job: Job, about: str) -> None:
    await context.toast(job, es.STOPPING if stop_reply(context, job) else es.NOTHING_TO_STOP)


async def _good(context: Context, job: Job, about: str) -> None:
    await _rate(context, job, about, 1)


async def _bad(context: Context, job: Job, about: str) -> None:
    await _rate(context, job, about, -1)


async def _rate(context: Context, job: Job, about: str, value: int) -> None:
    rate, user_id = context.log.rate, job.incoming.user_id
    reply_id = _number(about)
    if reply_id and await context.database.insist(lambda: rate(job.chat, reply_id, user_id, 1 if value > 0 else -1)):
        await context.toast(job, es.THANKS_GOOD if value > 0 else es.THANKS_BAD)
    else:
        await context.toast(job, es.NOT_HERE_ANY_MORE)


async def _ask_correction(context: Context, job: Job, about: str) -> None:
    reply_id = _number(about)
    await context.toast(job)
    if reply_id:
        # The number stands in the text: the answer to it finds its reply after a restart too.
        await context.say(job, es.CORRECT_HOW.format(reply_id=reply_id), ForceReply(selective=True))


def is_correction(incoming: Incoming) -> bool:
    """True for an answer to the question that ✏️ asks."""
    return incoming.replied_to_bot and bool(incoming.text) and _ASKED.fullmatch(incoming.replied_text) is not None


async def correct(context: Context, job: Job) -> None:
    """Store a person's better answer."""
    found = _ASKED.fullmatch(job.incoming.replied_text)
    assert found is not None
    user_id, text, log = job.incoming.user_id, job.incoming.text, context.log
    if not await context.database.insist(log.correct, job.chat, int(found[1]), user_id, text):
        await context.say(job, es.NOT_HERE_ANY_MORE)
        return
    consents = await context.database.insist(log.consent, user_id)
    await context.say(job, es.CORRECTED if consents else es.CORRECTED_NO_CONSENT)


async def _again(context: Context, job: Job, about: str) -> None:
    history = await context.database.insist(context.log.history, job.chat)
    if not history or history[-1].id != _number(about):
        await context.toast(job, es.ONLY_THE_LAST)
        return
    await context.toast(job)
    await repeat(context, job)


async def _consent(context: Context, job: Job, about: str) -> None:
    if about not in ("yes", "no"):
        return
    await context.database.insist(context.log.set_consent, job.incoming.user_id, about == "yes")
    if about == "no":
        context.watch.forgot.set()
    await context.toast(job)
    await _show_instead(context, job, es.CONSENT_GIVEN if about == "yes" else es.CONSENT_REFUSED)


async def _mood(context: Context, job: Job, about: str) -> None:
    if about in MOODS:
        await _prefer(context, job, "temperature", MOODS[about])


async def _length(context: Context, job: Job, about: str) -> None:
    if about in LENGTHS:
        await _prefer(context, job, "max_new_tokens", LENGTHS[about])


async def _prefer(context: Context, job: Job, name: str, value: float | None) -> None:
    await context.toast(job)
    text, markup = preferences_page(await context.database.insist(context.log.set_preference, job.chat, name, value))
    await context.delivery.replace(job.chat, job.incoming.message_id, text, markup)


async def _forget(context: Context, job: Job, about: str) -> None:
    what, _, asked_by = about.partition(":")
    user_id = job.incoming.user_id
    if _number(asked_by) != user_id:
        await context.toast(job, es.NOT_YOURS)
        return
    await context.toast(job)
    if what == "yes":
        # What is in the making of theirs, in any chat, is not to come back after it.
        context.forgotten[user_id] = job.arrived
        for running in context.running.values():
            if running.user_id == user_id and running.began < job.arrived:
                running.cancel.set()
        await context.database.insist(context.log.forget, user_id, up_to=job.update_id)
        context.watch.forgot.set()
        context.noticed.discard(user_id)
    await _show_instead(context, job, es.FORGOTTEN_ALL if what == "yes" else es.KEPT_ALL)


async def _show_instead(context: Context, job: Job, text: str) -> None:
    """Put the outcome in the place of the question."""
    try:
        await context.delivery.replace(job.chat, job.incoming.message_id, text, None)
    except Undeliverable:
        await context.say(job, text)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None


BUTTONS: dict[str, Press] = {
    "stop": _stop,
    "good": _good,
    "bad": _bad,
    "correct": _ask_correction,
    "again": _again,
    "consent": _consent,
    "mood": _mood,
    "length": _length,
    "forget": _forget,
}
