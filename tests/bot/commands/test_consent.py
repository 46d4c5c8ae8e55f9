"""What people may say about what is kept of them: consent, erasure, a copy. Through a real Bot API server."""

from __future__ import annotations

import pytest

from bot import texts_es as es
from tests.bot.commands.asking import Start, ask, key
from tests.emulator import Chat, Emulator, User


def test_who_asked_is_forgotten_while_another_asks_for_another_reply(
    telegram: Emulator, start: Start, ana: User, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Eva's press makes of Ana's message must neither be stored nor take the place of the reply before it."""
    monkeypatch.setenv("ECHO_WORD_S", "0.1")
    bot, group, eve = start(), telegram.group("Amigos"), telegram.user("Eva")
    ask(telegram, group, eve, "@tertulia_bot de Eva", 2)
    ask(telegram, group, ana, "@tertulia_bot " + "de Ana " * 10, 2)
    telegram.wait_for(lambda: len(bot.log.history(key(group))) == 4)
    question = ask(telegram, chat, ana, "/olvidar")
    telegram.press(telegram.shown(group)[-1], "🔄", user=eve)
    telegram.wait_for(lambda: bot.metrics.total_of("tertulia_generating_replies"))
    telegram.press(question, es.BUTTON_FORGET)
    telegram.wait_for(lambda: telegram.shown(group)[-1].text == es.NOTHING_TO_REPEAT, 20)
    assert [row.text for row in bot.log.history(key(group))] == ["de Eva", "eco: de Eva."]


def test_who_writes_at_once_after_erasing_everything_is_answered(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    bot = start()
    ask(telegram, chat, ana, "hola", 2)
    question = ask(telegram, chat, ana, "/olvidar")
    telegram.hold()
    telegram.say(chat, ana, "antes")
    telegram.press(question, es.BUTTON_FORGET)
    telegram.say(chat, ana, "después")
    telegram.release()
    telegram.wait_for(lambda: telegram.sent(chat)[-1].text == "eco: después.", 20)
    assert [row.text for row in bot.log.history(key(chat))] == ["después", "eco: después."]
    telegram.wait_for(lambda: not bot.log.inbox_pending())


def test_consent_is_given_and_withdrawn(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    ask(telegram, chat, ana, "/start", 2)
    assert bot.log.consent(ana.id) is None
    telegram.press(telegram.sent(chat)[1], es.BUTTON_CONSENT)
    telegram.wait_for(lambda: bot.log.consent(ana.id))
    telegram.wait_for(lambda: telegram.shown(chat)[1].text == es.CONSENT_GIVEN)
    ask(telegram, chat, ana, "/retirar")
    assert bot.log.consent(ana.id) is False
    ask(telegram, chat, ana, "/consentir")
    assert bot.log.consent(ana.id) is True
    assert ask(telegram, chat, ana, "hola").text == "eco: hola."  # no second notice


def test_forget_asks_first_and_only_the_one_who_asked_counts(telegram: Emulator, start: Start, ana: User) -> None:
    bot = start()
    group, eve = telegram.group("Amigos"), telegram.user("Eva")
    ask(telegram, group, ana, "@tertulia_bot hola", 2)
    question = ask(telegram, group, ana, "/olvidar")
    telegram.press(question, es.BUTTON_FORGET, user=eve)
    ask(telegram, group, eve, "@tertulia_bot hola", 2)
    assert len(bot.log.history(key(group))) == 4
    telegram.press(question, es.BUTTON_FORGET, user=ana)
    telegram.wait_for(lambda: any(shown.text == es.FORGOTTEN_ALL for shown in telegram.shown(group)))
    assert [row.text for row in bot.log.history(key(group))] == ["hola", "eco: hola."]


def test_my_data_is_a_file_in_private_only(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    ask(telegram, chat, ana, "hola", 2)
    assert ask(telegram, chat, ana, "/misdatos").method == "sendDocument"
    group = telegram.group("Amigos")
    assert ask(telegram, group, ana, "/misdatos").text == es.YOUR_DATA_IN_PRIVATE
