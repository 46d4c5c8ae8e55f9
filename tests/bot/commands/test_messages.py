"""What people send: the notice, edits, what is no text, long replies, limits. Through a real Bot API server."""

from __future__ import annotations

import json
import time

from bot import texts_es as es
from tests.bot.commands.asking import Start, ask, key, message_of
from tests.emulator import PHOTO, STICKER, VOICE, Chat, Emulator, User


def test_the_first_message_brings_the_notice_once_then_only_replies(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    start()
    reply = ask(telegram, chat, ana, "hola", 2)
    notice = telegram.sent(chat)[0]
    assert notice.text == es.CONSENT.format(days=30)
    assert reply.text == "eco: hola."
    assert [text for text, _ in reply.buttons] == ["👍", "👎", "✏️", "🔄"]
    assert ask(telegram, chat, ana, "otra vez").text == "eco: otra vez."


def test_a_reply_is_stored_with_what_it_was_made_of(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    reply = ask(telegram, chat, ana, "hola", 2)
    user, answer = bot.log.history(key(chat))
    assert (user.text, answer.text) == ("hola", "eco: hola.")
    assert answer.ids
    telegram.wait_for(lambda: bot.log.history(key(chat))[1].external_id == reply.message_id)
    data = bot.log.export_user(ana.id)
    assert "eco" in json.dumps(data, default=str)
    assert bot.metrics.total_of("tertulia_replies_total") == 1
    telegram.wait_for(lambda: not bot.log.inbox_pending())


def test_an_edit_of_the_last_message_is_asked_anew_an_older_one_not(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    bot = start()
    first = telegram.say(chat, ana, "uno")
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 2)
    second = telegram.say(chat, ana, "dos")
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 3)
    telegram.edit(second, "tres")
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 4)
    assert telegram.sent(chat)[-1].text == "eco: tres."
    assert [row.text for row in bot.log.history(key(chat))][-2:] == ["tres", "eco: tres."]
    telegram.edit(first, "cuatro")
    assert ask(telegram, chat, ana, "cinco").text == "eco: cinco."


def test_an_edit_counts_when_it_was_made_and_without_text_not_at_all(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    """By the date of its message a late edit makes people wait for hours; a moving place is edited for ever."""
    start(messages_per_minute=3)
    said = telegram.say(chat, ana, "uno", date=int(time.time()) - 1800)
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 2)
    for _ in range(5):
        telegram.push({"edited_message": message_of(chat, ana, location={"latitude": 1.0, "longitude": 2.0})})
    telegram.edit(said, "dos")
    telegram.wait_for(lambda: telegram.sent(chat)[-1].text == "eco: dos.")
    ask(telegram, chat, ana, "tres")
    ask(telegram, chat, ana, "cuatro")
    refusal = ask(telegram, chat, ana, "cinco").text
    assert refusal.startswith(es.TOO_FAST.partition("{")[0])
    assert 50 <= int("".join(char for char in refusal if char.isdigit())) <= 60


def test_what_is_not_text_gets_a_kind_answer(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    assert ask(telegram, chat, ana, None, voice=VOICE).text == es.NOT_TEXT["voice"]
    assert ask(telegram, chat, ana, None, photo=PHOTO).text == es.NOT_TEXT["photo"]
    assert ask(telegram, chat, ana, None, sticker=STICKER).text == es.NOT_TEXT["sticker"]
    assert ask(telegram, chat, ana, "\u200b\u2060").text == es.EMPTY_MESSAGE


def test_an_album_gets_one_answer(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    for _ in range(3):
        telegram.say(chat, ana, None, photo=PHOTO, media_group_id="7")
    assert ask(telegram, chat, ana, "/version").text == es.NOT_TEXT["photo"]
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 2)
    telegram.wait_quiet(0.5)
    assert len(telegram.sent(chat)) == 2


def test_strangers_to_a_private_bot_are_told_their_number_once(telegram: Emulator, start: Start, ana: User) -> None:
    eve = telegram.user("Eva")
    start(allowed_ids=(ana.id,))
    assert ask(telegram, telegram.private(eve), eve, "hola").text == es.PRIVATE_BOT.format(user_id=eve.id)
    telegram.say(telegram.private(eve), eve, "¿hola?")
    assert ask(telegram, telegram.private(ana), ana, "hola", 2).text == "eco: hola."
    time.sleep(1.2)
    assert len(telegram.sent(telegram.private(eve))) == 1


def test_limits_are_told_once_and_kindly(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start(messages_per_minute=2)
    ask(telegram, chat, ana, "uno", 2)
    ask(telegram, chat, ana, "dos")
    telegram.press(telegram.sent(chat)[-1], "🔄")
    assert ask(telegram, chat, ana, "tres").text.startswith(es.TOO_FAST.partition("{")[0])
    telegram.say(chat, ana, "cuatro")
    assert ask(telegram, chat, ana, "/parar").text == es.NOTHING_TO_STOP
    telegram.wait_quiet(1.2)
    assert len(telegram.sent(chat)) == 5


def test_the_limit_of_a_day_outlives_the_process(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start(messages_per_day=2)
    ask(telegram, chat, ana, "uno", 2)
    ask(telegram, chat, ana, "dos")
    bot.stop()
    start(messages_per_day=2)
    assert ask(telegram, chat, ana, "tres").text == es.ENOUGH_TODAY


def test_a_long_reply_comes_in_parts(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    ask(telegram, chat, ana, "hola", 2)
    telegram.say(chat, ana, "frase corta. " * 315)  # with "eco: " it is longer than one message
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 4, 30)
    parts = telegram.sent(chat)[2:]
    assert all(len(part.text) <= 4096 for part in parts)
    assert [len(part.buttons) for part in parts] == [0, 4]
