"""Updates on their way: stored first, each once, in order within a chat, side by side across chats, found again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from telegram import User

from bot.database import Database
from bot.inbox import MAX_ATTEMPTS, MAX_PER_CHAT, MAX_URGENT, Inbox, Job
from bot.metrics import Metrics
from training.dialogues import DialogueLog, sqlite_url
from training.errors import LogError

ME = User(1, "Tertulia", is_bot=True, username="tertulia_bot")


def update(update_id: int, chat_id: int = 7, text: str = "hola") -> dict[str, Any]:
    person = {"id": chat_id, "is_bot": False, "first_name": "Ana"}
    chat = {"id": chat_id, "type": "private", "first_name": "Ana"}
    message = {"message_id": update_id, "date": 1_700_000_000, "chat": chat, "from": person, "text": text}
    return {"update_id": update_id, "message": message}


@pytest.fixture
def log(tmp_path: Path) -> DialogueLog:
    return DialogueLog(sqlite_url(tmp_path / "dialogues.db"))


def with_inbox(
    log: DialogueLog,
    handle: Callable[[Job], Awaitable[None]],
    do: Callable[[Inbox], Coroutine[Any, Any, None]],
) -> Metrics:
    metrics = Metrics()

    async def work() -> None:
        inbox = Inbox(Database(log, metrics), ME, metrics, handle, lambda incoming: incoming.command == "parar")
        await asyncio.wait_for(do(inbox), 60)

    asyncio.run(work())
    return metrics


async def settled(inbox: Inbox) -> None:
    while inbox.waiting:
        await asyncio.sleep(0.01)


def test_what_is_accepted_is_stored_even_if_nothing_of_it_is_done(log: DialogueLog) -> None:
    async def never(job: Job) -> None:
        await asyncio.sleep(1000)

    async def do(inbox: Inbox) -> None:
        for number in range(5):
            await inbox.accept(update(number))
        assert not await inbox.stop(0.0, lambda: None, 0.0)

    with_inbox(log, never, do)
    rows = log.inbox_pending()
    assert [row.update_id for row in rows] == [0, 1, 2, 3, 4]

    seen: list[tuple[int, str, bool]] = []

    async def note(job: Job) -> None:
        seen.append((job.update_id, job.incoming.text, job.is_recovered))
        log.inbox_done(job.update_id)

    async def again(inbox: Inbox) -> None:
        assert await inbox.recover() == 5
        await inbox.accept(update(5))
        await settled(inbox)

    with_inbox(log, note, again)
    assert seen == [*((number, "hola", True) for number in range(5)), (5, "hola", False)]
    assert log.inbox_pending() == []


def test_an_update_that_comes_again_is_not_answered_again(log: DialogueLog) -> None:
    seen: list[int] = []

    async def note(job: Job) -> None:
        seen.append(job.update_id)
        log.inbox_done(job.update_id)

    async def do(inbox: Inbox) -> None:
        for number in (1, 2, 1, 2, 3):
            await inbox.accept(update(number))
        await settled(inbox)
        await inbox.accept(update(1))

    metrics = with_inbox(log, note, do)
    assert seen == [1, 2, 3]
    assert metrics.updates.labels("repeated")._value.get() == 3


def test_order_holds_within_a_chat_and_a_slow_one_stops_no_other(log: DialogueLog) -> None:
    seen: list[tuple[int, int]] = []
    released = asyncio.Event()

    async def slow_for_seven(job: Job) -> None:
        if job.chat.chat_id == 7:
            await released.wait()
        seen.append((job.chat.chat_id, job.update_id))

    async def do(inbox: Inbox) -> None:
        for number in range(0, 20, 2):
            await inbox.accept(update(number, 7))
            await inbox.accept(update(number + 1, 8))
        while len(seen) < 10:
            await asyncio.sleep(0.01)
        assert {chat for chat, _ in seen} == {8}
        released.set()
        await settled(inbox)

    with_inbox(log, slow_for_seven, do)
    assert [number for chat, number in seen if chat == 7] == list(range(0, 20, 2))
    assert [number for chat, number in seen if chat == 8] == list(range(1, 20, 2))


def test_stopping_does_not_wait_for_the_reply_it_stops(log: DialogueLog) -> None:
    stopped = asyncio.Event()

    async def handle(job: Job) -> None:
        if job.incoming.command == "parar":
            stopped.set()
        else:
            await stopped.wait()

    async def do(inbox: Inbox) -> None:
        await inbox.accept(update(1))
        await inbox.accept(update(2))
        await inbox.accept(update(3, text="/parar"))
        await settled(inbox)

    with_inbox(log, handle, do)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"update_id": "x", "message": 3},
        {"update_id": 5, "message": {"message_id": 1}},
        {"update_id": 5, "message": "hola"},
        {"update_id": 10**30, **{"message": update(1)["message"]}},
    ],
)
def test_an_update_that_cannot_be_read_is_counted_and_passed_over(log: DialogueLog, raw: Any) -> None:
    seen: list[int] = []

    async def note(job: Job) -> None:
        seen.append(job.update_id)

    async def do(inbox: Inbox) -> None:
        await inbox.accept(raw)
        await inbox.accept(update(9))
        await settled(inbox)

    metrics = with_inbox(log, note, do)
    assert seen == [9]
    assert metrics.total_of("tertulia_updates_total") == 2


def test_channel_posts_and_other_bots_are_not_even_stored(log: DialogueLog) -> None:
    post = {"message_id": 1, "date": 1, "chat": {"id": -100, "type": "channel", "title": "C"}, "text": "secreto"}
    other = update(2)
    other["message"]["from"]["is_bot"] = True

    async def fail(job: Job) -> None:
        raise AssertionError

    async def do(inbox: Inbox) -> None:
        await inbox.accept({"update_id": 1, "channel_post": post})
        await inbox.accept(other)

    assert with_inbox(log, fail, do).updates.labels("ignored")._value.get() == 2
    assert log.inbox_pending() == []


def test_accept_waits_while_the_log_cannot_be_written(log: DialogueLog, monkeypatch: pytest.MonkeyPatch) -> None:
    put, failures = log.inbox_put, [LogError("full"), LogError("full")]

    def failing(*args: Any) -> bool:
        if failures:
            raise failures.pop()
        return put(*args)

    monkeypatch.setattr(log, "inbox_put", failing)

    async def nothing(job: Job) -> None:
        return

    async def do(inbox: Inbox) -> None:
        await inbox.accept(update(1))
        assert len(log.inbox_pending()) == 1
        await settled(inbox)

    with_inbox(log, nothing, do)


def test_a_commit_whose_answer_was_lost_is_answered_all_the_same(
    log: DialogueLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try finds the number there: passed over as a repetition, it would wait for the next start."""
    put, failures, seen = log.inbox_put, [LogError("the connection is lost")], []

    def cut_after(*args: Any) -> bool:
        is_new = put(*args)
        if failures:
            raise failures.pop()
        return is_new

    monkeypatch.setattr(log, "inbox_put", cut_after)

    async def note(job: Job) -> None:
        await asyncio.sleep(0.05)
        seen.append(job.update_id)
        log.inbox_done(job.update_id)

    async def do(inbox: Inbox) -> None:
        for number in (1, 1, 2, 2):
            await inbox.accept(update(number))
        await settled(inbox)
        await inbox.accept(update(1))
        await settled(inbox)

    with_inbox(log, note, do)
    assert seen == [1, 2]


def test_a_chat_that_sends_what_is_urgent_without_end_stops_no_other(log: DialogueLog) -> None:
    """Each is answered at its chat's pace: a thousand of them would fill the bot for everybody."""
    excess, released = [], asyncio.Event()

    async def handle(job: Job) -> None:
        if job.is_excess:
            excess.append(job.update_id)
        elif job.chat.chat_id == 7:
            await released.wait()

    async def do(inbox: Inbox) -> None:
        for number in range(1100):
            await asyncio.wait_for(inbox.accept(update(number, text="/parar")), 10)
        await asyncio.wait_for(inbox.accept(update(5000, 8)), 10)
        released.set()
        await settled(inbox)
        await inbox.accept(update(6000, text="/parar"))
        await settled(inbox)

    with_inbox(log, handle, do)
    assert excess == list(range(MAX_URGENT, 1100))


def test_an_error_that_nobody_caught_ends_no_queue(log: DialogueLog) -> None:
    seen: list[int] = []

    async def fail(job: Job) -> None:
        seen.append(job.update_id)
        if job.update_id == 1:
            raise RuntimeError

    async def do(inbox: Inbox) -> None:
        for number in (1, 2):
            await inbox.accept(update(number))
        await settled(inbox)
        await inbox.accept(update(3))
        await settled(inbox)

    metrics = with_inbox(log, fail, do)
    assert seen == [1, 2, 3]
    assert metrics.errors.labels("bug")._value.get() == 1


def test_a_chat_that_sends_too_much_is_told_so_at_once(log: DialogueLog) -> None:
    excess: list[int] = []
    released = asyncio.Event()

    async def handle(job: Job) -> None:
        if job.is_excess:
            excess.append(job.update_id)
        else:
            await released.wait()

    async def do(inbox: Inbox) -> None:
        for number in range(MAX_PER_CHAT + 2):
            await inbox.accept(update(number))
        while len(excess) < 2:
            await asyncio.sleep(0.01)
        released.set()
        await settled(inbox)

    with_inbox(log, handle, do)
    assert excess == [MAX_PER_CHAT, MAX_PER_CHAT + 1]


def test_a_message_that_ends_the_process_is_given_up(log: DialogueLog) -> None:
    begun: list[int] = []

    async def crash(job: Job) -> None:
        begun.append(job.update_id)
        await asyncio.sleep(1000)

    async def put(inbox: Inbox) -> None:
        await inbox.accept(update(1))
        await inbox.stop(0.0, lambda: None, 0.0)

    async def again(inbox: Inbox) -> None:
        await inbox.recover()
        await asyncio.sleep(0.2)
        await inbox.stop(0.0, lambda: None, 0.0)

    with_inbox(log, crash, put)
    for _ in range(MAX_ATTEMPTS + 3):
        with_inbox(log, crash, again)
    assert len(begun) == MAX_ATTEMPTS
    assert log.inbox_pending() == []


def test_lone_surrogates_are_stored_and_come_back(log: DialogueLog) -> None:
    texts: list[str] = []

    async def note(job: Job) -> None:
        texts.append(job.incoming.text)

    async def do(inbox: Inbox) -> None:
        await inbox.accept(update(1, text="a\ud83d\x00b"))
        await settled(inbox)

    with_inbox(log, note, do)
    assert texts == ["a\ufffdb"]
