"""One reply of the model for one job: history and settings to a prompt, made in a thread, shown as it grows, measured.

Always: a reply that the end of the process cuts off, or whose person was forgotten meanwhile, is dropped, not stored.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from bot import texts_es as es
from bot.context import Context, Dropped
from bot.inbox import Job
from bot.replies import Running, owner_of
from bot.service import Reply
from bot.splitting import is_visible, tidy
from bot.streaming import Preview
from bot.talk import derive_seed
from bot.tasks import Task
from model.conversation import Message
from model.engine.params import SamplingParams
from model.errors import EngineBusy, PromptTooLong
from training.dialogues import LoggedMessage, ReplyFacts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A reply, how it ran, and where it was shown meanwhile."""

    reply: Reply
    running: Running
    preview: Preview
    params: SamplingParams

    def facts(self, context: Context) -> ReplyFacts:
        """What is stored of how it was made."""
        return ReplyFacts(
            model=context.loaded.name,
            adapter=self.reply.adapter,
            num_prompt_tokens=self.reply.num_prompt_tokens,
            num_reply_tokens=len(self.reply.ids),
            first_token_s=self.running.first_token_s,
            total_s=self.running.total_s,
            sampling=asdict(self.params),
            finish=self.reply.finish,
        )


async def make_reply(
    context: Context, job: Job, history: Sequence[LoggedMessage], text: str, *, attempt: int = 0
) -> Made | None:
    """The next reply of the chat's conversation; None if a fixed text was said instead. Raises Dropped."""

    def read() -> tuple[str, dict[str, float | int]]:
        return context.log.system(job.chat), context.log.preferences(job.chat)

    of_chat, preferences = await context.database.insist(read)
    system = of_chat or context.settings.system
    messages = [Message("system", system)] if system else []
    messages += [Message(row.role, row.text, ids=row.ids) for row in history]
    params = replace(context.loaded.params, **preferences)  # type: ignore[arg-type]
    seed = derive_seed(params.seed, len(history) // 2, attempt)
    return await _make(context, job, messages, text, replace(params, seed=seed))


async def make_task_reply(context: Context, job: Job, task: Task, text: str) -> Made | None:
    """What the model makes of a task, whatever the conversation; None if a fixed text was said instead."""
    return await _make(context, job, task.history, task.ask(text), task.params(context.loaded.params))


async def _make(
    context: Context, job: Job, messages: Sequence[Message], text: str, params: SamplingParams
) -> Made | None:
    if params.seed is None:
        params = replace(params, seed=secrets.randbits(63))  # it is stored, so that the reply can be made again
    owner, user_id = owner_of(job.chat), job.incoming.user_id
    running = context.replies.begin(messages, text, params, owner=owner, user_id=user_id)
    reply_to = None if job.incoming.is_private else job.incoming.message_id
    preview = Preview(context.delivery, job.chat, job.update_id % 2**31 or 1, reply_to)
    context.running[job.chat] = running
    context.metrics.generating.inc()
    try:
        await preview.follow(running)
        reply = await running.done
    except PromptTooLong:
        await context.say(job, es.TOO_LONG)
        return None
    except EngineBusy:
        context.metrics.errors.labels("busy").inc()
        await context.say(job, es.BUSY)
        return None
    finally:
        running.cancel.set()
        context.running.pop(job.chat, None)
        context.metrics.generating.dec()
    _measure(context, job, reply, running)
    if (context.is_ending and reply.finish == "cancelled") or context.was_forgotten(job):
        await preview.take_away()
        raise Dropped
    if is_visible(tidy(reply.text)):
        return Made(reply, running, preview, params)
    text = es.STOPPED_TELEGRAM if reply.finish == "cancelled" else es.NOTHING_SAID_TELEGRAM
    await context.database.insist(context.log.inbox_reply, job.update_id, text)
    await preview.finish(text, None)
    return None


def _measure(context: Context, job: Job, reply: Reply, running: Running) -> None:
    metrics, total_s, first_s = context.metrics, running.total_s, running.first_token_s
    metrics.replies.labels(reply.finish or "left").inc()
    metrics.reply_tokens.inc(len(reply.ids))
    metrics.prompt_tokens.inc(reply.num_prompt_tokens)
    metrics.total.observe(total_s)
    if first_s is not None:
        metrics.first_token.observe(first_s)
        if len(reply.ids) > 1 and total_s > first_s:
            metrics.tokens_per_s.set((len(reply.ids) - 1) / (total_s - first_s))
    logger.info(
        "reply update=%s chat=%s thread=%s prompt_tokens=%d reply_tokens=%d first_s=%.2f total_s=%.2f finish=%s",
        *(job.update_id, job.chat.chat_id, job.chat.thread_id),
        *(reply.num_prompt_tokens, len(reply.ids), first_s or 0.0, total_s, reply.finish),
    )
