"""What people can say to the bot beside talking, through a real Bot API server: commands, buttons, consent, groups."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot import texts_es as es
from bot.handlers_commands import COMMANDS
from bot.tasks import TASKS
from tests.bot.telegram_fixture import BotThread
from tests.emulator import PHOTO, STICKER, VOICE, Chat, Emulator, Sent, User
from training.dialogues import Chat as LogChat

Start = Callable[..., BotThread]


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def start(telegram: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("bot.pacing.PRIVATE_S", 0.05)  # what the pace is, test_pacing checks
    monkeypatch.setattr("bot.pacing.GROUP_S", 0.05)
    bots: list[BotThread] = []

    def begin(**settings: object) -> BotThread:
        bots.append(BotThread(telegram, tmp_path, **settings))
        return bots[-1]

    yield begin
    for bot in bots:
        bot.stop()


@pytest.fixture
def ana(telegram: Emulator) -> User:
    return telegram.user("Ana")


@pytest.fixture
def chat(telegram: Emulator, ana: User) -> Chat:
    return telegram.private(ana)


def ask(telegram: Emulator, chat: Chat, user: User | None, text: str | None, count: int = 1, **extra: object) -> Sent:
    """Say something and wait for so many messages of the bot -> the last one."""
    before = len(telegram.sent(chat))
    telegram.say(chat, user, text, **extra)
    telegram.wait_for(lambda: len(telegram.sent(chat)) >= before + count, 30)
    return telegram.sent(chat)[before + count - 1]


def message_of(chat: Chat, user: User, **fields: object) -> dict[str, object]:
    """A message as Telegram writes it, of a kind that the emulator has no words for."""
    now = int(time.time())
    return {"message_id": 999, "date": now, "edit_date": now, "chat": chat.as_json(), "from": user.as_json(), **fields}


def key(chat: Chat) -> LogChat:
    return LogChat("telegram", chat.id)


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


def test_my_data_is_a_file_in_private_only(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    ask(telegram, chat, ana, "hola", 2)
    assert ask(telegram, chat, ana, "/misdatos").method == "sendDocument"
    group = telegram.group("Amigos")
    assert ask(telegram, group, ana, "/misdatos").text == es.YOUR_DATA_IN_PRIVATE


def test_a_long_reply_comes_in_parts(telegram: Emulator, start: Start, ana: User, chat: Chat) -> None:
    start()
    ask(telegram, chat, ana, "hola", 2)
    telegram.say(chat, ana, "frase corta. " * 315)  # with "eco: " it is longer than one message
    telegram.wait_for(lambda: len(telegram.sent(chat)) == 4, 30)
    parts = telegram.sent(chat)[2:]
    assert all(len(part.text) <= 4096 for part in parts)
    assert [len(part.buttons) for part in parts] == [0, 4]


def test_a_group_that_becomes_a_supergroup_keeps_its_conversation(telegram: Emulator, start: Start, ana: User) -> None:
    bot = start()
    group = telegram.group("Amigos", "group")
    ask(telegram, group, ana, "@tertulia_bot uno", 2)
    new = telegram.migrate(group)
    telegram.wait_for(lambda: len(bot.log.history(key(new))) == 2, 20)
    assert ask(telegram, new, ana, "@tertulia_bot dos").text == "eco: dos."
    assert len(bot.log.history(key(new))) == 4
