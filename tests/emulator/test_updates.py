"""Updates reach a bot as from Telegram: offsets, long polls, two pollers, the webhook; what people may send."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup
from telegram.error import (
    BadRequest,
    Conflict,
)

from tests.emulator import PHOTO, STICKER, VOICE, Emulator
from tests.emulator.bot_calls import with_bot


def test_an_update_comes_again_until_a_higher_offset_confirms_it(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    ids = [telegram.say(chat, None, str(number)) for number in range(5)]

    async def poll(bot: Bot) -> list[list[int]]:
        polls = [
            await bot.get_updates(limit=2),
            await bot.get_updates(limit=2),
            await bot.get_updates(offset=ids[2]),
            await bot.get_updates(offset=-1),
            await bot.get_updates(offset=ids[4] + 1),
        ]
        return [[update.update_id for update in updates] for updates in polls]

    assert with_bot(telegram, poll) == [ids[:2], ids[:2], ids[2:], ids[4:], []]
    assert all(telegram.confirmed(update_id) for update_id in ids)
    assert telegram.num_pending() == 0


def test_a_long_poll_returns_as_soon_as_something_is_said(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))

    async def poll(bot: Bot) -> tuple[float, int]:
        begin = time.monotonic()
        waiting = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        telegram.say(chat, None, "hola")
        updates = await waiting
        return time.monotonic() - begin, len(updates)

    seconds, count = with_bot(telegram, poll)
    assert (count, seconds < 10) == (1, True)


def test_a_second_poller_ends_the_first_with_409(telegram: Emulator) -> None:
    async def poll(bot: Bot) -> None:
        first = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.1)
        async with Bot(telegram.token, base_url=telegram.base_url) as other:  # a bot has one connection for polls
            second = asyncio.create_task(other.get_updates(timeout=1))
            with pytest.raises(Conflict, match="terminated by other getUpdates"):
                await first
            assert await second == ()

    with_bot(telegram, poll)


def test_a_poll_whose_bot_was_killed_takes_no_update_with_it(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))

    async def poll(bot: Bot) -> int:
        first = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        telegram.say(chat, None, "hola")
        return len(await bot.get_updates(timeout=5))

    assert with_bot(telegram, poll) == 1


def test_only_allowed_updates_are_queued(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))

    async def poll(bot: Bot) -> list[bool]:
        await bot.get_updates(allowed_updates=["message"])
        update_id = telegram.say(chat, None, "uno")
        telegram.edit(update_id, "dos")
        return [update.message is not None for update in await bot.get_updates()]

    assert with_bot(telegram, poll) == [True]


def test_a_button_is_answered_in_time_or_refused(telegram: Emulator) -> None:
    ana = telegram.user("Ana")
    chat = telegram.private(ana)

    async def press(bot: Bot) -> None:
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("👍", callback_data="bien")]])
        await bot.send_message(chat.id, "¿bien?", reply_markup=keyboard)
        telegram.press(telegram.sent(chat)[0], "👍")
        telegram.press(telegram.sent(chat)[0], "👍", old=True)
        new, old = [update.callback_query for update in await bot.get_updates()]
        assert new is not None
        assert old is not None
        assert (new.data, new.from_user.id, new.message.text) == ("bien", ana.id, "¿bien?")
        assert await new.answer("Gracias")
        with pytest.raises(BadRequest, match="too old"):
            await old.answer()
        with pytest.raises(BadRequest, match=r"(?i)button_data_invalid"):
            await bot.send_message(
                chat.id, "x", reply_markup=InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="ñ" * 33)]])
            )

    with_bot(telegram, press)


def test_people_send_more_than_text(telegram: Emulator) -> None:
    ana, other = telegram.user("Ana"), telegram.user("Eva")
    chat, group, forum = telegram.private(ana), telegram.group("Amigos"), telegram.forum("Foro")
    telegram.say(chat, None, None, voice=VOICE)
    telegram.say(chat, None, None, photo=PHOTO, caption="mira")
    telegram.say(chat, None, None, sticker=STICKER)
    telegram.say(chat, ana, "/estado", forwarded_from=other)
    telegram.say(group, None, "/estado", anonymous=True)
    topic = telegram.say(forum, ana, "en un tema", thread=7)
    telegram.say(forum, other, "y otra", reply_to=telegram.message_id(topic))
    telegram.post(telegram.channel("Canal"), "aviso")
    telegram.edit(topic, "cambiado")
    telegram.block(ana)

    async def poll(bot: Bot) -> list[Any]:
        return [update.effective_message for update in await bot.get_updates()]

    voice, photo, sticker, forwarded, anonymous, first, second, post, edited, _ = with_bot(telegram, poll)
    assert voice.voice.duration == 3
    assert (photo.caption, len(photo.photo)) == ("mira", 1)
    assert sticker.sticker.emoji == "🙂"
    assert forwarded.forward_origin.sender_user.id == other.id
    assert (anonymous.from_user.username, anonymous.sender_chat.id) == ("GroupAnonymousBot", group.id)
    assert (first.message_thread_id, second.message_thread_id, second.reply_to_message.text) == (7, 7, "en un tema")
    assert (post.chat.type, post.from_user) == ("channel", None)
    assert edited.text == "cambiado"


def test_the_webhook_gets_updates_in_order_with_the_secret_until_it_takes_them(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    got: list[tuple[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = (await reader.readexactly(length)).decode()
        got.append((head, body))
        status = b"500 Error" if len(got) == 1 else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Bot(telegram.token, base_url=telegram.base_url) as bot:
            await bot.set_webhook(f"http://127.0.0.1:{port}/gancho", secret_token="secreto")
            with pytest.raises(Conflict, match="webhook is active"):
                await bot.get_updates()
            ids = [telegram.say(chat, None, "uno"), telegram.say(chat, None, "dos")]
            await asyncio.to_thread(telegram.wait_for, lambda: all(telegram.confirmed(i) for i in ids))
            await bot.delete_webhook()
            assert await bot.get_updates() == ()

    asyncio.run(run())
    assert len(got) == 3
    assert all("x-telegram-bot-api-secret-token: secreto" in head for head, _ in got)
    assert ["uno" in body for _, body in got] == [True, True, False]
