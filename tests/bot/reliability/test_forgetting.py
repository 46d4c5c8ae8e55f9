"""/olvidar leaves nothing of what a person said: not one byte in the database, its journal and the inbox."""

from __future__ import annotations

from pathlib import Path

from bot import texts_es as es
from tests.bot.reliability.bot_process import BotProcess
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import WORD, Talk, wait_answered
from tests.emulator import Emulator, Sent


def traces(folder: Path, words: list[str]) -> list[str]:
    """Where one of the words stands in the bytes of a file, also as UTF-16."""
    files = {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return [
        f"{name}: {word}"
        for name, data in files.items()
        for word in words
        if word.encode() in data or word.encode("utf-16-le") in data
    ]


def forget(telegram: Emulator, talk: Talk) -> None:
    telegram.say(talk.chat, talk.user, "/olvidar")
    asked = telegram.wait_for(lambda: with_button(telegram, talk, es.BUTTON_FORGET))
    telegram.press(asked, es.BUTTON_FORGET)
    wait_text(telegram, talk, es.FORGOTTEN_ALL)


def wait_text(telegram: Emulator, talk: Talk, text: str) -> Sent:
    """The bot's message that begins so."""
    return telegram.wait_for(
        lambda: next((shown for shown in telegram.shown(talk.chat)[::-1] if shown.text.startswith(text)), None)
    )


def with_button(telegram: Emulator, talk: Talk, button: str) -> Sent | None:
    """The last message of the bot that has that button."""
    return next((shown for shown in telegram.shown(talk.chat)[::-1] if button in dict(shown.buttons)), None)


def talk_a_lot(telegram: Emulator, start_bot: StartBot, **settings: str) -> tuple[BotProcess, Talk, Talk]:
    """Two people who use everything that stores their words; then the bot crashes."""
    bot = start_bot(**settings)
    ana, eva = Talk.begin(telegram, 2)
    updates = {}
    for talk in (ana, eva):
        mine = f"{WORD}{talk.user.id}"
        for text in ("/consentir", f"/personaje Eres {mine}", f"{mine} uno", f"{mine} dos", "/nueva"):
            telegram.say(talk.chat, talk.user, text)
        updates[talk.user.id] = telegram.say(talk.chat, talk.user, f"{mine} otra vez")
    for talk in (ana, eva):
        mine = f"{WORD}{talk.user.id}"
        wait_text(telegram, talk, f"eco: {mine} otra vez")
        telegram.edit(updates[talk.user.id], f"{mine} y editado")
        wait_text(telegram, talk, f"eco: {mine} y editado")
        reply = with_button(telegram, talk, es.BUTTON_CORRECT)
        assert reply is not None
        telegram.press(reply, es.BUTTON_CORRECT)
        asked = wait_text(telegram, talk, es.CORRECT_HOW.partition("{")[0])
        telegram.say(talk.chat, talk.user, f"mejor: {mine} corregido", reply_to=asked.message_id)
        wait_text(telegram, talk, es.CORRECTED)
    bot.kill()
    bot.start()
    return bot, ana, eva


def test_olvidar_leaves_no_byte_and_touches_nobody_else(telegram: Emulator, start_bot: StartBot) -> None:
    bot, ana, eva = talk_a_lot(telegram, start_bot)
    mine, hers = f"{WORD}{ana.user.id}", f"{WORD}{eva.user.id}"
    assert traces(bot.state, [mine])
    forget(telegram, ana)
    assert traces(bot.state, [mine]) == [], "while the bot runs"
    assert traces(bot.state, [hers])
    bot.stop()
    assert traces(bot.state, [mine]) == [], "after it stopped"
    bot.start()
    eva.say()
    ana.say()
    assert wait_answered(telegram, [ana, eva]).lost == []


def test_olvidar_is_not_undone_by_what_comes_again(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot()
    ana, eva = Talk.begin(telegram, 2)
    for talk in (ana, eva):
        talk.say()
    wait_answered(telegram, [ana, eva])
    assert traces(bot.state, ana.said)
    forget(telegram, ana)
    telegram.fail("getUpdates", 1, "forget_offset")
    eva.say()
    wait_answered(telegram, [eva])
    assert traces(bot.state, ana.said) == []
    assert traces(bot.state, eva.said)
