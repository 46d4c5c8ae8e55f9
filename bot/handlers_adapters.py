"""The admin's commands about adapters: which there are, one into service, back to the one before."""

import asyncio
from collections.abc import Callable

from bot import texts_es as es
from bot.context import Context
from bot.inbox import Job
from training.errors import TrainingError
from training.registry import Entry, Pointer, Registry

BY = "by an admin on Telegram"  # in the history; no number of a person stands in a registry


async def show(context: Context, job: Job) -> None:
    """All adapters, with what serves and what has to be forgotten."""
    await context.say(job, await asyncio.to_thread(_overview, context))


async def promote(context: Context, job: Job) -> None:
    """Put one into service by its id; with the word after it, also one that the gate refused."""
    adapter_id, _, word = job.incoming.text.partition(" ")
    word = word.strip().lower()
    if not adapter_id or word not in ("", es.FORCE_WORD):
        await context.say(job, es.PROMOTE_WHICH.format(word=es.FORCE_WORD))
        return
    served = context.loaded.adapters
    base = None if served is None else served.base

    def change(registry: Registry) -> Pointer:
        return registry.promote(adapter_id, reasons=(BY,), forced=word == es.FORCE_WORD, base=base)

    await _change(context, job, change)


async def roll_back(context: Context, job: Job) -> None:
    """End the trial, or take the last promotion back."""
    await _change(context, job, lambda registry: registry.rollback(reasons=(BY,)))


async def _change(context: Context, job: Job, change: Callable[[Registry], Pointer]) -> None:
    served = context.loaded.adapters
    if served is None:
        await context.say(job, es.ADAPTER_IS_PINNED.format(adapter=context.loaded.adapter or es.NO_ADAPTER))
        return
    try:
        pointer = await asyncio.to_thread(change, context.watch.registry)
    except TrainingError as error:
        await context.say(job, es.NOT_CHANGED.format(reason=error))
        return
    await asyncio.to_thread(served.refresh)
    text = es.SERVES_NOW.format(adapter=pointer.adapter or es.NO_ADAPTER)
    await context.say(job, text if served.problem is None else f"{text}\n{es.PROBLEM.format(reason=served.problem)}")


def _overview(context: Context) -> str:
    registry, served = context.watch.registry, context.loaded.adapters
    try:
        entries, pointer = registry.list(), registry.serving()
    except TrainingError as error:
        return es.PROBLEM.format(reason=error)
    lines = [es.ADAPTERS_OF.format(model=context.loaded.name)]
    lines += [_line(entry, pointer) for entry in entries] or [es.NO_ADAPTERS]
    if served is None:
        lines.append(es.ADAPTER_IS_PINNED.format(adapter=context.loaded.adapter or es.NO_ADAPTER))
    elif served.problem is not None:
        lines.append(es.PROBLEM.format(reason=served.problem))
    return "\n".join(lines)


def _line(entry: Entry, pointer: Pointer) -> str:
    marks = []
    if entry.id == pointer.adapter:
        marks.append(es.IN_SERVICE)
    if entry.id == pointer.candidate:
        marks.append(es.ON_TRIAL.format(percent=f"{100 * pointer.share:g}".replace(".", ",")))
    if entry.lineage.refused_for:
        marks.append(es.REFUSED)
    if entry.forgotten is not None:
        marks.append(
            (es.RETIRED if entry.forgotten.retired else es.FORGOTTEN_ROWS).format(rows=entry.forgotten.num_rows)
        )
    return f"• {entry.id} ({', '.join([f'{entry.lineage.created_at:%Y-%m-%d}', *marks])})"
