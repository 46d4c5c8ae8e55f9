"""The emulator behaves as Telegram does where a bot can see it, checked through python-telegram-bot itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)

from tests.emulator import PHOTO, STICKER, VOICE, Emulator


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def with_bot(telegram: Emulator, do: Callable[[Bot], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Bot(telegram.token, base_url=telegram.base_url) as bot:
            return await do(bot)

    return asyncio.run(run())


def test_a_message_goes_both_ways(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    update_id = telegram.say(chat, None, "/ayuda y @tertulia_bot")

    async def answer(bot: Bot) -> tuple[Update, ...]:
        updates = await bot.get_updates(timeout=5)
        message = updates[0].message
        assert message is not None
        await message.reply_text("  Hola\x00, Ana  ", do_quote=True)
        await bot.send_chat_action(chat.id, "typing")
        return updates

    (update,) = with_bot(telegram, answer)
    assert update.update_id == update_id
    assert update.message.from_user.first_name == "Ana"
    assert [entity.type for entity in update.message.entities] == ["bot_command", "mention"]
    (sent,) = telegram.sent(chat)
    assert sent.text == "Hola , Ana"
    assert sent.reply_to == telegram.message_id(update_id)
    assert telegram.transcript(chat) == "Ana › /ayuda y @tertulia_bot\nTertulia › Hola , Ana"


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


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "Message text is empty"),
        (" \n\u2800", "Text must be non-empty"),
        ("a" * 4097, "Message is too long"),
        ("🙂" * 4096, None),
    ],
)
def test_a_text_is_refused_as_telegram_refuses_it(telegram: Emulator, text: str, answer: str | None) -> None:
    chat = telegram.private(telegram.user("Ana"))

    async def send(bot: Bot) -> str | None:
        try:
            await bot.send_message(chat.id, text)
        except BadRequest as error:
            return str(error)
        return None

    assert with_bot(telegram, send) == answer


def test_html_is_parsed_and_broken_html_refused(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))

    async def send(bot: Bot) -> None:
        message = await bot.send_message(chat.id, "<b>hola</b> &lt;tú&gt;", parse_mode="HTML")
        assert message.text == "hola <tú>"
        assert message.entities[0].type == "bold"
        for broken in ("<b>hola", "a < b", "<h1>a</h1>", "a</b>"):
            with pytest.raises(BadRequest, match="parse entities"):
                await bot.send_message(chat.id, broken, parse_mode="HTML")

    with_bot(telegram, send)


def test_edits_change_what_is_shown_and_an_equal_edit_is_refused(telegram: Emulator) -> None:
    ana = telegram.user("Ana")
    chat = telegram.private(ana)
    asked = telegram.message_id(telegram.say(chat, None, "hola"))

    async def edit(bot: Bot) -> None:
        sent = await bot.send_message(chat.id, "uno")
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("👍", callback_data="bien")]])
        await sent.edit_text("dos", reply_markup=keyboard)
        with pytest.raises(BadRequest, match="not modified"):
            await bot.edit_message_text("dos", chat.id, sent.message_id, reply_markup=keyboard)
        with pytest.raises(BadRequest, match="can't be edited"):
            await bot.edit_message_text("dos", chat.id, asked)
        with pytest.raises(BadRequest, match="to edit not found"):
            await bot.edit_message_text("dos", chat.id, 999)
        gone = await bot.send_message(chat.id, "tres")
        await gone.delete()

    with_bot(telegram, edit)
    assert [(sent.text, sent.buttons) for sent in telegram.shown(chat)] == [("dos", (("👍", "bien"),))]


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


def test_drafts_only_in_private_chats(telegram: Emulator) -> None:
    chat, group = telegram.private(telegram.user("Ana")), telegram.group("Amigos")

    async def draft(bot: Bot) -> None:
        assert await bot.send_message_draft(chat.id, 7, "Ho")
        assert await bot.send_message_draft(chat.id, 7, "Hola")
        with pytest.raises(BadRequest):
            await bot.send_message_draft(group.id, 7, "Ho")
        with pytest.raises(BadRequest):
            await bot.send_message_draft(chat.id, 0, "Ho")

    with_bot(telegram, draft)
    assert telegram.drafts(chat) == ["Ho", "Hola"]
    assert telegram.sent(chat) == []


def test_a_file_arrives_with_its_content(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    with_bot(
        telegram, lambda bot: bot.send_document(chat.id, "ñandú".encode(), caption="tus datos", filename="d.jsonl")
    )
    (sent,) = telegram.sent(chat)
    assert (sent.file, sent.file_name, sent.text) == ("ñandú".encode(), "d.jsonl", "tus datos")


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


def test_lone_surrogates_reach_the_bot_and_are_refused_from_it(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    telegram.say(chat, None, "mal \ud83d")

    async def echo(bot: Bot) -> None:
        (update,) = await bot.get_updates()
        assert update.message is not None
        assert update.message.text == "mal \ud83d"
        with pytest.raises(NetworkError):
            await bot.send_message(chat.id, "mal \ud83d")

    with_bot(telegram, echo)


def test_commands_are_checked_and_kept_by_scope(telegram: Emulator) -> None:
    async def register(bot: Bot) -> None:
        await bot.set_my_commands([("ayuda", "qué puedo hacer")])
        with pytest.raises(BadRequest, match=r"(?i)command_invalid"):
            await bot.set_my_commands([("Ayuda", "x")])

    with_bot(telegram, register)
    assert telegram.commands == {"default": [{"command": "ayuda", "description": "qué puedo hacer"}]}
