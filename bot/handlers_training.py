"""/entrenar: an administrator lets the bot learn from what was said, and is told what became of it."""

import asyncio
import logging

from bot import texts_es as es
from bot.context import Context
from bot.delivery import Undeliverable
from bot.inbox import Job
from bot.incoming import PLATFORM
from bot.training_process import Ended, TrainingProcess
from training.dialogues import Chat
from training.errors import TrainingError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


async def train(context: Context, job: Job) -> None:
    """Begin a training; it goes on in idle time, whatever becomes of the bot."""
    begun = await asyncio.to_thread(context.training.start, job.chat.chat_id, job.chat.thread_id)
    logger.info("training asked for by user=%s begun=%s", job.incoming.user_id, begun)
    await context.say(job, es.TRAINING_BEGINS if begun else es.TRAINING_RUNS)


async def tell_trainings(context: Context) -> None:
    """Tell whoever asked how a training ended; also one that ended while the bot was away."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            ended = await asyncio.to_thread(context.training.ended)
        except (OSError, TrainingError) as error:
            logger.warning("how the training ended cannot be read: %s", error)
            continue
        if ended is not None:
            await _tell(context, context.training, ended)


async def _tell(context: Context, training: TrainingProcess, ended: Ended) -> None:
    chat = Chat(PLATFORM, ended.asked.chat_id, ended.asked.thread_id)
    try:
        await context.delivery.send(chat, verdict(ended))
    except Undeliverable as error:
        logger.info("the verdict cannot be delivered error=%s", error)
    await asyncio.to_thread(training.told)


def verdict(ended: Ended) -> str:
    """What became of a training, for the person who asked for it."""
    if ended.outcome is None:
        return es.TRAINING_FAILED.format(error=ended.error)
    lines = [es.TRAINING_ENDED[ended.outcome]]
    if ended.losses is not None:
        before, after = (f"{loss:.3f}".replace(".", ",") for loss in ended.losses)
        lines.append(es.TRAINING_LOSSES.format(before=before, after=after))
    lines += [f"– {es.GATE_REFUSES.get(name, words)}" for name, words in ended.failed.items()]
    return "\n".join([*lines, *(f"– {reason}" for reason in ended.reasons), es.TRAINING_FIGURES])
