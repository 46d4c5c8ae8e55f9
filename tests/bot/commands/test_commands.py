"""Commands and buttons, for people and for admins. Through a real Bot API server."""

from __future__ import annotations

import json

import pytest

from bot import texts_es as es
from bot.handlers_commands import COMMANDS
from bot.tasks import TASKS
from tests.bot.commands.asking import Start, ask, key
from tests.emulator import Chat, Emulator, User


def test_every_command_answers(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    for name in [*COMMANDS, *TASKS, "desconocida"]:
        sent = ask(telegram, chat, ana, f"/{name} ", 2 if name == "start" else 1)
        assert sent.text or sent.method == "sendDocument", name
    assert telegram.sent(chat)[-1].text == es.UNKNOWN_COMMAND_TELEGRAM


def test_every_command_is_in_the_help_and_registered(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    text = ask(telegram, chat, ana, "/ayuda").text
    for name in {*es.COMMANDS, *TASKS}:
        assert f"/{name} " in text
    assert set(es.COMMANDS) == set(COMMANDS) - {"help"}
    registered = telegram.wait_for(lambda: telegram.commands)
    assert {"traducir", "olvidar"} <= {one["command"] for commands in registered.values() for one in commands}


def test_undo_repeat_and_new_change_the_conversation(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    ask(telegram, chat, ana, "uno", 2)
    ask(telegram, chat, ana, "dos")
    assert ask(telegram, chat, ana, "/repetir").text == "eco: dos."
    assert [row.text for row in bot.log.history(key(chat))] == ["uno", "eco: uno.", "dos", "eco: dos."]
    assert ask(telegram, chat, ana, "/deshacer").text == es.UNDONE_TELEGRAM
    assert [row.text for row in bot.log.history(key(chat))] == ["uno", "eco: uno."]
    assert ask(telegram, chat, ana, "/nueva").text == es.NEW_CONVERSATION_TELEGRAM
    assert bot.log.history(key(chat)) == []
    assert ask(telegram, chat, ana, "/deshacer").text == es.NOTHING_TO_UNDO
    assert ask(telegram, chat, ana, "/repetir").text == es.NOTHING_TO_REPEAT


def test_the_buttons_of_a_reply(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    reply = ask(telegram, chat, ana, "hola", 2)
    telegram.press(reply, "👍")
    telegram.wait_for(lambda: bot.log.stats()["ratings_up"] == 1)
    telegram.press(reply, "✏️")
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 3)
    question = telegram.sent(chat)[-1]
    assert ask(telegram, chat, ana, "¡Buenas, Ana!", reply_to=question.message_id).text == es.CORRECTED_NO_CONSENT
    assert "¡Buenas, Ana!" in json.dumps(bot.log.export_user(ana.id), default=str, ensure_ascii=False)
    telegram.press(reply, "🔄")
    telegram.wait_for(lambda: telegram.sent(chat)[-1].text == "eco: hola.")
    assert len(bot.log.history(key(chat))) == 2


def test_a_button_about_another_chats_reply_does_nothing(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    bot = start()
    ask(telegram, chat, ana, "hola", 2)
    reply_id = bot.log.history(key(chat))[-1].id
    eve = telegram.user("Eva")
    theirs = ask(telegram, telegram.private(eve), eve, "hola", 2)
    before = bot.log.export_user(ana.id)
    for data in (f"good:{reply_id}", f"again:{reply_id}", "good:x", "forget:yes:1", "??", "mood:7", "consent:"):
        telegram.press(theirs, data, user=eve)
    ask(telegram, telegram.private(eve), eve, f"mi versión (nº {reply_id})", reply_to=theirs.message_id)
    assert bot.log.export_user(ana.id) == before


def test_settings_by_buttons_hold_for_the_chat(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    page = ask(telegram, chat, ana, "/ajustes")
    telegram.press(page, es.MOODS["calm"])
    telegram.wait_for(lambda: bot.log.preferences(key(chat)) == {"temperature": 0.2})
    telegram.press(page, es.LENGTHS["short"])
    telegram.wait_for(lambda: set(bot.log.preferences(key(chat))) == {"temperature", "max_new_tokens"})
    telegram.press(page, "mood:normal")
    telegram.wait_for(lambda: set(bot.log.preferences(key(chat))) == {"max_new_tokens"})
    telegram.wait_for(lambda: es.SETTING_CHOSEN.format(name="corta") in str(telegram.shown(chat)[0].buttons))


def test_persona_is_shown_set_and_taken_away(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    assert ask(telegram, chat, ana, "/personaje").text == es.NO_PERSONA
    ask(telegram, chat, ana, "/personaje Eres un pirata.")
    assert bot.log.system(key(chat)) == "Eres un pirata."
    assert "pirata" in ask(telegram, chat, ana, "/personaje").text
    assert ask(telegram, chat, ana, "/personaje -").text == es.PERSONA_GONE
    assert "1000" in ask(telegram, chat, ana, "/personaje " + "x" * 1001).text


def test_parar_stops_the_reply_at_once(
    telegram: Emulator, start: Start, ana: User, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHO_WORD_S", "0.2")
    start()
    telegram.say(chat, ana, "palabra " * 200)
    telegram.wait_for(lambda: telegram.drafts(chat), 30)
    telegram.say(chat, ana, "/parar")
    telegram.wait_for(lambda: any(sent.text.endswith(es.STOPPED_TELEGRAM) for sent in telegram.sent(chat)), 20)
    assert es.STOPPING in [sent.text for sent in telegram.sent(chat)]
    assert ask(telegram, chat, ana, "/parar").text == es.NOTHING_TO_STOP


def test_admin_commands_work_for_admins(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start(admin_ids=(ana.id,))
    eve = telegram.user("Eva")
    assert ask(telegram, chat, ana, "/estado").text.startswith("En marcha")
    assert "eco" in ask(telegram, chat, ana, "/adaptadores").text
    assert ask(telegram, chat, ana, f"/bloquear {eve.id}").text == es.BLOCKED.format(user_id=eve.id)
    assert bot.log.blocked(eve.id)
    assert ask(telegram, chat, ana, f"/bloquear {eve.id} no").text == es.UNBLOCKED.format(user_id=eve.id)
    assert not bot.log.blocked(eve.id)
    for wrong in ("", " yo", f" {ana.id}", " 12 quizá", " no"):
        assert ask(telegram, chat, ana, f"/bloquear{wrong}").text in (es.BLOCK_WHOM, es.NOT_AN_ADMIN_BLOCK)


def test_admins_have_their_commands_though_one_never_wrote(
    telegram: Emulator, start: Start, ana: User, chat: Chat
) -> None:
    """Telegram refuses commands for a chat that there is not; that one must not cost the others theirs."""
    telegram.fail("setMyCommands", 1, "502")
    start(admin_ids=(404, ana.id))
    telegram.wait_for(lambda: len(telegram.commands) == 2, 20)
    for scope, commands in telegram.commands.items():
        assert ("estado" in {one["command"] for one in commands}) == (str(ana.id) in scope), scope


def test_a_task_is_no_turn_of_the_conversation(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    bot = start()
    assert ask(telegram, chat, ana, "/traducir Hola").text == "eco: Traduce al inglés.\nHola."
    told = ask(telegram, chat, ana, "hola", 2)
    assert ask(telegram, chat, ana, "/resumir", reply_to=told.message_id).text.endswith("eco: hola..")
    assert ask(telegram, chat, ana, "/sql").text.startswith("Pon el texto detrás")
    assert len(bot.log.history(key(chat))) == 2
