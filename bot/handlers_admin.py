"""The commands of whoever looks after the bot; `handlers` has checked who asks."""

import re
import time
from collections.abc import Awaitable, Callable

from bot import handlers_adapters, handlers_training
from bot import texts_es as es
from bot.context import Context
from bot.inbox import Job


async def state(context: Context, job: Job) -> None:
    """How the bot is doing, in numbers; no id and no text."""
    metrics = context.metrics
    stats = await context.database.insist(context.log.stats)
    text = es.STATE_IS.format(
        uptime=_duration(time.monotonic() - context.began),
        model=context.loaded.name,
        waiting=max(0, metrics.total_of("tertulia_waiting_updates") - 1),  # this very command is one of them
        generating=metrics.total_of("tertulia_generating_replies"),
        poll_age=round(metrics.poll_age()),
        replies=metrics.total_of("tertulia_replies_total"),
        errors=metrics.total_of("tertulia_errors_total"),
        log=", ".join(f"{name} {value:g}" for name, value in stats.items()),
    )
    await context.say(job, text)


async def block(context: Context, job: Job) -> None:
    """Block a person by number, or the writer of the message answered; with "no" unblock. Twice is as once."""
    given, _, word = job.incoming.text.partition(" ")
    if given.lower() == "no" or not given:
        given, word = str(job.incoming.replied_user_id), given
    user_id = int(given) if re.fullmatch(r"-?\d{1,18}", given) else 0
    blocked = word.strip().lower() != "no"
    if not user_id or user_id == context.me.id or (blocked and word):
        await context.say(job, es.BLOCK_WHOM)
    elif user_id in context.settings.admin_ids:
        await context.say(job, es.NOT_AN_ADMIN_BLOCK)
    else:
        await context.database.insist(context.log.set_blocked, user_id, blocked)
        await context.say(job, (es.BLOCKED if blocked else es.UNBLOCKED).format(user_id=user_id))


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h {minutes} min" if days else f"{hours} h {minutes} min {s} s"


COMMANDS: dict[str, Callable[[Context, Job], Awaitable[None]]] = {
    "estado": state,
    "bloquear": block,
    "adaptadores": handlers_adapters.show,
    "promover": handlers_adapters.promote,
    "revertir": handlers_adapters.roll_back,
    "entrenar": handlers_training.train,
}
