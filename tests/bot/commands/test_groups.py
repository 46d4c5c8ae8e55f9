"""Groups and forums: when it answers, where, and how a reply grows there. Through a real Bot API server."""

from __future__ import annotations

import pytest

from bot import texts_es as es
from tests.bot.commands.asking import Start, ask, key
from tests.emulator import Emulator, User
from training.dialogues import Chat as LogChat


def test_who_writes_in_the_name_of_a_group_is_told_that_this_is_for_people(
    telegram: Emulator, start: Start, ana: User
) -> None:
    bot = start()
    group = telegram.group("Amigos")
    for command in ("/olvidar", "/consentir"):
        assert ask(telegram, group, None, command, anonymous=True).text == es.ONLY_PEOPLE
    assert bot.log.consent(group.id) is None


def test_in_a_group_it_answers_when_spoken_to(telegram: Emulator, start: Start, ana: User) -> None:
    bot = start()
    group = telegram.group("Amigos")
    telegram.say(group, ana, "hablamos entre nosotros")
    telegram.say(group, ana, "/ayuda@otro_bot")
    telegram.say(group, ana, "/loquesea")
    reply = ask(telegram, group, ana, "@Tertulia_bot, ¿estás?", 2)
    assert reply.text == "eco: ¿estás?."
    assert reply.reply_to is not None
    assert ask(telegram, group, ana, "sigue", reply_to=reply.message_id).text == "eco: sigue."
    assert ask(telegram, group, ana, "/version@tertulia_bot").text.startswith("Tertulia")
    assert len(bot.log.history(key(group))) == 4
    assert len(telegram.sent(group)) == 4


def test_each_topic_of_a_forum_is_a_conversation(telegram: Emulator, start: Start, ana: User) -> None:
    bot = start()
    forum = telegram.forum("Foro")
    ask(telegram, forum, ana, "@tertulia_bot uno", 2, thread=7)
    ask(telegram, forum, ana, "@tertulia_bot dos", thread=8)
    assert [row.text for row in bot.log.history(LogChat("telegram", forum.id, 7))] == ["uno", "eco: uno."]
    assert [row.text for row in bot.log.history(LogChat("telegram", forum.id, 8))] == ["dos", "eco: dos."]


def test_a_slow_reply_in_a_group_grows_by_edits_and_its_button_stops_it(
    telegram: Emulator, start: Start, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHO_WORD_S", "0.2")
    start()
    group = telegram.group("Amigos")
    telegram.say(group, ana, "@tertulia_bot " + "palabra " * 200)
    telegram.wait_for(lambda: len(telegram.calls("editMessageText", group)) > 1, 30)
    growing = telegram.shown(group)[-1]
    assert growing.text.startswith("eco: palabra")
    telegram.press(growing, es.BUTTON_STOP, user=ana)
    telegram.wait_for(lambda: telegram.shown(group)[-1].text.endswith(es.STOPPED_TELEGRAM), 20)
    assert len(telegram.shown(group)) == 2  # the notice and the reply


def test_a_reply_in_a_group_that_the_end_cuts_off_is_taken_away_and_made_anew(
    telegram: Emulator, start: Start, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half would stay in the group for ever, with a button that stops nothing."""
    monkeypatch.setenv("ECHO_WORD_S", "0.2")
    monkeypatch.setattr("bot.telegram_app.FINISH_S", 0.1)
    bot = start()
    group = telegram.group("Amigos")
    telegram.say(group, ana, "@tertulia_bot " + "palabra " * 60)
    telegram.wait_for(lambda: telegram.shown(group) and telegram.shown(group)[-1].text.startswith("eco: palabra"), 30)
    bot.stop()
    assert [shown.text for shown in telegram.shown(group)] == [es.CONSENT.format(days=30)]
    monkeypatch.setenv("ECHO_WORD_S", "0.01")
    start()
    telegram.wait_for(lambda: telegram.shown(group)[-1].text.endswith("palabra."), 30)
    assert len([shown for shown in telegram.shown(group) if shown.text.startswith("eco")]) == 1


def test_a_group_that_becomes_a_supergroup_keeps_its_conversation(telegram: Emulator, start: Start, ana: User) -> None:
    bot = start()
    group = telegram.group("Amigos", "group")
    ask(telegram, group, ana, "@tertulia_bot uno", 2)
    new = telegram.migrate(group)
    telegram.wait_for(lambda: len(bot.log.history(key(new))) == 2, 20)
    assert ask(telegram, new, ana, "@tertulia_bot dos").text == "eco: dos."
    assert len(bot.log.history(key(new))) == 4
