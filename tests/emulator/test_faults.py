"""Faults happen as often as they were told to, and look to python-telegram-bot as Telegram's do."""

from __future__ import annotations

import asyncio

import pytest
from telegram import Bot
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)

from tests.emulator import Emulator
from tests.emulator.bot_calls import with_bot


def test_where_the_bot_may_not_write(telegram: Emulator) -> None:
    ana = telegram.user("Ana")
    chat, group = telegram.private(ana), telegram.group("Amigos", "group")
    telegram.block(ana)
    new = telegram.migrate(group)

    async def send(bot: Bot) -> None:
        with pytest.raises(Forbidden, match="blocked by the user"):
            await bot.send_message(chat.id, "hola")
        with pytest.raises(ChatMigrated) as migrated:
            await bot.send_message(group.id, "hola")
        assert migrated.value.new_chat_id == new.id
        await bot.send_message(new.id, "hola")
        with pytest.raises(BadRequest, match="Chat not found"):
            await bot.send_message(99, "hola")
        kinds = [update.my_chat_member is not None for update in await bot.get_updates()]
        assert kinds == [True, False, False]

    with_bot(telegram, send)


def test_a_wrong_token_is_refused(telegram: Emulator) -> None:
    async def start(token: str) -> None:
        async with Bot(token, base_url=telegram.base_url):
            pass

    for token in ("123456:otra", "nada"):
        with pytest.raises(InvalidToken):
            asyncio.run(start(token))


@pytest.mark.parametrize(
    ("kind", "error", "delivered"),
    [
        ("429", RetryAfter, 0),
        ("500", NetworkError, 0),
        ("502", NetworkError, 0),
        ("bad_json", TelegramError, 0),
        ("400", BadRequest, 0),
        ("401", InvalidToken, 0),
        ("403", Forbidden, 0),
        ("cut_before", NetworkError, 0),
        ("cut_after", NetworkError, 1),
        ("slow", TimedOut, 1),
        ("slow_after", TimedOut, 1),
    ],
)
def test_a_fault_hits_as_often_as_it_was_told(
    telegram: Emulator, kind: str, error: type[Exception], delivered: int
) -> None:
    chat, other = telegram.private(telegram.user("Ana")), telegram.private(telegram.user("Eva"))
    telegram.fail("sendMessage", 1, kind, chat=chat, seconds=0.5)

    async def send(bot: Bot) -> None:
        assert await bot.send_message(other.id, "a otra")
        with pytest.raises(error):
            await bot.send_message(chat.id, "uno", read_timeout=0.2)
        telegram.heal()
        assert await bot.send_message(chat.id, "dos")

    with_bot(telegram, send)
    telegram.wait_for(lambda: len(telegram.sent(chat)) == delivered + 1)
    assert len(telegram.calls("sendMessage", chat)) == 2


def test_a_flooded_chat_stays_refused_until_the_time_is_over(telegram: Emulator) -> None:
    chat, other = telegram.private(telegram.user("Ana")), telegram.private(telegram.user("Eva"))
    telegram.fail("sendMessage", 1, "429", chat=chat, retry_after=1)

    async def send(bot: Bot) -> None:
        for _ in range(2):
            with pytest.raises(RetryAfter):
                await bot.send_message(chat.id, "uno")
        assert await bot.send_message(other.id, "a otra")
        await asyncio.sleep(1.1)
        assert await bot.send_message(chat.id, "dos")

    with_bot(telegram, send)


def test_telegrams_own_limits_on_request() -> None:
    with Emulator(flood=True) as telegram:
        chat = telegram.private(telegram.user("Ana"))

        async def send(bot: Bot) -> int:
            for count in range(20):
                try:
                    await bot.send_message(chat.id, str(count))
                except RetryAfter:
                    return count
            return 20

        assert with_bot(telegram, send) == 6


def test_an_outage_refuses_connections_and_ends(telegram: Emulator) -> None:
    async def call(bot: Bot) -> None:
        telegram.outage(0.5)
        with pytest.raises(NetworkError):
            await bot.get_me()
        await asyncio.sleep(0.7)
        assert (await bot.get_me()).username == "tertulia_bot"

    with_bot(telegram, call)


def test_confirmed_updates_come_again_on_demand(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    ids = [telegram.say(chat, None, "uno"), telegram.say(chat, None, "dos")]

    async def poll(bot: Bot) -> list[list[int]]:
        await bot.get_updates(offset=ids[1] + 1)
        telegram.redeliver(ids[0])
        again = await bot.get_updates(offset=ids[1] + 1)
        nothing = await bot.get_updates(offset=ids[1] + 1)
        telegram.fail("getUpdates", 1, "forget_offset")
        everything = await bot.get_updates(offset=ids[1] + 1)
        return [[update.update_id for update in updates] for updates in (again, nothing, everything)]

    assert with_bot(telegram, poll) == [ids[:1], [], ids]


def test_a_poisoned_update_breaks_the_parsing_of_the_library(telegram: Emulator) -> None:
    telegram.poison()
    with pytest.raises(TypeError):
        with_bot(telegram, lambda bot: bot.get_updates())
