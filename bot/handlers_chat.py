"""A message to its reply: history, model, preview, log, delivery; the same for another try, an edit and a task.

Always: a reply is stored, with what it was made of, before it is delivered; one that the end of the process cuts off is
not, and is made again by the next run.
"""

from collections.abc import Callable

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

from bot import texts_es as es
from bot.context import NEVER, Context, Dropped
from bot.inbox import Job
from bot.making import Made, make_reply, make_task_reply
from bot.splitting import is_visible, tidy
from bot.tasks import Task
from training.dialogues import LoggedMessage
from training.errors import Forgotten, NothingToReplace


async def converse(context: Context, job: Job) -> None:
    """Answer a message of the conversation; before a person's first one say what is kept."""
    await notice_once(context, job)
    history = await context.database.insist(context.log.history, job.chat)
    made = await make_reply(context, job, history, job.incoming.text)
    if made is not None:
        await _keep(context, job, made, lambda: _append(context, job, made))


async def repeat(context: Context, job: Job) -> None:
    """Another reply to the last message, in the place of the one given."""
    history = await context.database.insist(context.log.history, job.chat)
    turn = _last_turn(history)
    if turn is None:
        await context.say(job, es.NOTHING_TO_REPEAT)
        return
    made = await make_reply(context, job, history[:turn], history[turn].text, attempt=job.update_id)
    if made is None:
        return

    reply, facts, asked = made.reply, made.facts(context), history[turn].id

    def store() -> int:
        ids, update_id = tuple(reply.ids) or None, job.update_id
        return context.log.replace_reply(job.chat, reply.text, facts, reply_ids=ids, update_id=update_id, answers=asked)

    try:
        await _keep(context, job, made, store)
    except NothingToReplace:  # who had asked it was forgotten meanwhile
        await made.preview.finish(es.NOTHING_TO_REPEAT, None)


async def ask_again(context: Context, job: Job) -> None:
    """An edited message is asked anew if it is the last one; an older edit changes nothing."""
    history = await context.database.insist(context.log.history, job.chat)
    turn = _last_turn(history)
    if turn is None or history[turn].external_id != job.incoming.message_id:
        return
    if history[turn].text == job.incoming.text:
        return  # a link preview came, or an entity changed: Telegram calls that an edit too
    made = await make_reply(context, job, history[:turn], job.incoming.text)
    if made is None:
        return
    edited = history[turn].id
    await _keep(context, job, made, lambda: _append(context, job, made, replaces=edited))


async def do_task(context: Context, job: Job, task: Task) -> None:
    """A task on the text behind the command or on the message answered; no turn of the conversation."""
    text = job.incoming.text or job.incoming.replied_text
    if not text:
        await context.say(job, es.TASK_NEEDS_TEXT.format(name=task.name, example=task.examples[0].text))
        return
    made = await make_task_reply(context, job, task, text)
    if made is None:
        return
    said = tidy(made.reply.text)
    await context.database.insist(context.log.inbox_reply, job.update_id, said)
    await made.preview.finish(said, None)


async def deliver_stored(context: Context, job: Job) -> None:
    """Deliver what an earlier run stored and may not have delivered."""
    assert job.reply is not None
    reply_to = None if job.incoming.is_private or job.incoming.kind == "button" else job.incoming.message_id
    text = tidy(job.reply)
    if not is_visible(text):
        return
    markup = None if job.reply_id is None else rating_buttons(job.reply_id)
    message_id = await context.delivery.send(job.chat, text, markup=markup, reply_to=reply_to)
    if job.reply_id is not None:
        await context.database.insist(context.log.set_external_id, job.reply_id, message_id)


async def notice_once(context: Context, job: Job) -> None:
    """Say what is kept and ask for consent, before the first message of a person is answered."""
    user_id = job.incoming.user_id
    if user_id in context.noticed or not job.incoming.is_person:
        return

    def is_new() -> bool:
        return context.log.consent(user_id) is None and context.log.count_since(user_id, NEVER) == 0

    if await context.database.insist(is_new):
        await context.say(job, es.CONSENT.format(days=context.settings.retention_days), consent_buttons())
    context.noticed.add(user_id)


def _append(context: Context, job: Job, made: Made, replaces: int | None = None) -> int:
    reply = made.reply
    _, reply_id = context.log.append_turn(
        job.chat,
        job.incoming.user_id,
        job.incoming.text,
        reply.text,
        made.facts(context),
        reply_ids=tuple(reply.ids) or None,
        update_id=job.update_id,
        external_id=job.incoming.message_id,
        replaces=replaces,
    )
    return reply_id


async def _keep(context: Context, job: Job, made: Made, store: Callable[[], int]) -> None:
    """Store a reply, then deliver it. Raises Dropped if the person was forgotten meanwhile."""
    try:
        reply_id = await context.database.insist(store)
    except Forgotten:
        await made.preview.take_away()
        raise Dropped from None
    text = tidy(made.reply.text)
    if made.reply.finish == "cancelled":
        text += f" {es.STOPPED_TELEGRAM}"
    markup = None if made.reply.finish == "rule" else rating_buttons(reply_id)
    message_id = await made.preview.finish(text, markup)
    await context.database.insist(context.log.set_external_id, reply_id, message_id)


def rating_buttons(reply_id: int) -> InlineKeyboardMarkup:
    """What stands under a reply."""
    pairs = (
        (es.BUTTON_GOOD, "good"),
        (es.BUTTON_BAD, "bad"),
        (es.BUTTON_CORRECT, "correct"),
        (es.BUTTON_AGAIN, "again"),
    )
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(text, callback_data=f"{what}:{reply_id}") for text, what in pairs]]
    )


def consent_buttons() -> InlineKeyboardMarkup:
    """Yes or no, for whoever presses."""
    return InlineKeyboardMarkup(
        [
            [
                InlineKeyboardButton(es.BUTTON_CONSENT, callback_data="consent:yes"),
                InlineKeyboardButton(es.BUTTON_NO_CONSENT, callback_data="consent:no"),
            ]
        ]
    )


def _last_turn(history: list[LoggedMessage]) -> int | None:
    """Where the last message of a person stands."""
    return next((i for i in range(len(history) - 1, -1, -1) if history[i].role == "user"), None)
