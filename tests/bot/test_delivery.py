"""What each kind of failure makes the bot do, against a real server that fails so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from bot.delivery import Delivery, Undeliverable, backoff_s
from bot.metrics import Metrics
from bot.polling import make_bot
from tests.emulator import Chat, Emulator
from training.dialogues import Chat as LogChat


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr("bot.pacing.PRIVATE_S", 0.01)
    monkeypatch.setattr("bot.pacing.GROUP_S", 0.01)
    monkeypatch.setattr("bot.delivery.FLOOD_SLACK_S", 0.0)
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def chat(telegram: Emulator) -> Chat:
    return private(telegram, "Ana")


def private(telegram: Emulator, name: str) -> Chat:
    user = telegram.user(name)
    chat = telegram.private(user)
    telegram.say(chat, user, "hola")  # a bot cannot write first
    return chat


def key(chat: Chat) -> LogChat:
    return LogChat("telegram", chat.id)


def deliver(telegram: Emulator, do: Callable[[Delivery], Awaitable[Any]], **more: Any) -> Any:
    async def work() -> Any:
        bot = make_bot(telegram.token, telegram.base_url)
        await bot.initialize()
        try:
            return await do(Delivery(bot, Metrics(), **more))
        finally:
            await bot.shutdown()

    return asyncio.run(work())


@pytest.mark.parametrize("kind", ["429", "500", "502", "401", "cut_before", "409"])
def test_what_may_pass_is_tried_again_until_it_is_sent_once(telegram: Emulator, chat: Chat, kind: str) -> None:
    telegram.fail("sendMessage", 2, kind, retry_after=1)
    deliver(telegram, lambda delivery: delivery.send(key(chat), "hola"))
    assert [sent.text for sent in telegram.sent(chat)] == ["hola"]


@pytest.mark.parametrize("kind", ["cut_after", "bad_json"])
def test_an_answer_that_was_lost_means_twice_at_most_never_nothing(telegram: Emulator, chat: Chat, kind: str) -> None:
    telegram.fail("sendMessage", 1, kind)
    deliver(telegram, lambda delivery: delivery.send(key(chat), "hola"))
    assert 1 <= len(telegram.sent(chat)) <= 2


@pytest.mark.parametrize("answers_polls", [True, False])
def test_it_gives_a_message_up_only_while_telegram_answers(
    telegram: Emulator, chat: Chat, monkeypatch: pytest.MonkeyPatch, answers_polls: bool
) -> None:
    """An hour without a network is no reason to lose the replies of that hour."""
    monkeypatch.setattr("bot.delivery.GIVE_UP_S", 0.5)
    telegram.fail("sendMessage", 3, "500")

    async def send(delivery: Delivery) -> int:
        if answers_polls:
            delivery.metrics.polled()
        return await delivery.send(key(chat), "hola")

    if answers_polls:
        with pytest.raises(Undeliverable):
            deliver(telegram, send)
    else:
        assert deliver(telegram, send)


@pytest.mark.parametrize("kind", ["400", "403"])
def test_what_is_refused_is_not_tried_again(telegram: Emulator, chat: Chat, kind: str) -> None:
    telegram.fail("sendMessage", None, kind)
    with pytest.raises(Undeliverable):
        deliver(telegram, lambda delivery: delivery.send(key(chat), "hola"))
    assert len(telegram.calls("sendMessage")) == 1


def test_a_flooded_chat_does_not_stop_another(telegram: Emulator, chat: Chat) -> None:
    other = private(telegram, "Eva")
    telegram.fail("sendMessage", 1, "429", chat=chat, retry_after=3)

    async def both(delivery: Delivery) -> None:
        await asyncio.gather(*(delivery.send(key(one), "hola") for one in (chat, other)))

    deliver(telegram, both)
    times = {sent.chat_id: sent.at for sent in telegram.sent()}
    assert times[chat.id] - times[other.id] > 2


def test_a_group_that_moved_gets_it_under_its_new_id(telegram: Emulator) -> None:
    group = telegram.group("Amigos", "group")
    new = telegram.migrate(group)
    moves: list[tuple[int, int]] = []

    async def send(delivery: Delivery) -> LogChat:
        await delivery.send(key(group), "hola")
        return delivery.where(key(group))

    now = deliver(telegram, send, on_moved=lambda old, new: moves.append((old, new)))
    assert [sent.text for sent in telegram.sent(new)] == ["hola"]
    assert moves == [(group.id, new.id)]
    assert now == key(new)


def test_an_edit_that_changes_nothing_is_done_and_one_of_a_lost_message_is_sent(telegram: Emulator, chat: Chat) -> None:
    async def edit(delivery: Delivery) -> None:
        first = await delivery.send(key(chat), "hola")
        assert await delivery.replace(key(chat), first, "hola", None) == first
        assert await delivery.replace(key(chat), first, "adiós", None) == first
        assert await delivery.replace(key(chat), 999_999, "otra", None) > first
        assert await delivery.replace(key(chat), first, "x" * 5000, None) > first

    deliver(telegram, edit)
    assert [len(shown.text) for shown in telegram.shown(chat)] == [4096, 4, 904]


def test_a_preview_is_tried_once_and_only_if_there_is_room(telegram: Emulator, chat: Chat) -> None:
    telegram.fail("sendMessage", 1, "500")

    async def preview(delivery: Delivery) -> list[Any]:
        delivery.pacing.flooded(999, 60.0)

        async def make(chat_id: int) -> int:
            return (await delivery.bot.send_message(chat_id, "…")).message_id

        return [await delivery.try_once(chat.id, make), await delivery.try_once(999, make)]

    assert deliver(telegram, preview) == [None, None]
    assert len(telegram.calls("sendMessage")) == 1


def test_what_cannot_be_shown_is_never_called_for(telegram: Emulator, chat: Chat) -> None:
    deliver(telegram, lambda delivery: delivery.send(key(chat), " \n\u200b"))
    assert telegram.calls("sendMessage") == []


def test_waits_grow_and_end_at_half_a_minute() -> None:
    waits = [backoff_s(attempt) for attempt in range(12)]
    assert waits[0] < 1 < waits[3] < waits[6]
    assert max(waits) <= 36
