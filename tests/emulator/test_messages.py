"""What a bot sends is taken, changed and refused as by Telegram, checked through python-telegram-bot itself."""

from __future__ import annotations

import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import (
    BadRequest,
    NetworkError,
)

from tests.emulator import Emulator
from tests.emulator.bot_calls import with_bot


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
