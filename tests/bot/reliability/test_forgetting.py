"""/olvidar leaves nothing of what a person said: not one byte in the database, its journal and the inbox."""

from __future__ import annotations

from pathlib import Path

from bot import texts_es as es
from tests.bot.reliability.bot_process import BotProcess
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import QUIET_S, WORD, Talk, wait_answered
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
    telegram.wait_for(lambda: any(es.FORGOTTEN_ALL in shown.text for shown in telegram.shown(talk.chat)), 30)


def with_button(telegram: Emulator, talk: Talk, button: str) -> Sent | None:
    """The last message of the bot that has that button."""
    return next((shown for shown in telegram.shown(talk.chat)[::-1] if button in dict(shown.buttons)), None)


def talk_a_lot(telegram: Emulator, start_bot: StartBot, **settings: str) -> tuple[BotProcess, Talk, Talk]:
    """Two people who use everything that stores their words; a message and a rating are on the way when it crashes."""
    bot = start_bot(**settings)
    ana, eva = Talk.begin(telegram, 2)
    for talk in (ana, eva):
        mine = f"{WORD}{talk.user.id}"
        telegram.say(talk.chat, talk.user, "/consentir")
        telegram.say(talk.chat, talk.user, f"/personaje Eres {mine}")
        for number in range(3):
            telegram.say(talk.chat, talk.user, f"{mine} número {number}")
        telegram.say(talk.chat, talk.user, "/nueva")
        update_id = telegram.say(talk.chat, talk.user, f"{mine} otra vez")
        telegram.wait_quiet(QUIET_S)
        telegram.edit(update_id, f"{mine} y editado")
        telegram.wait_quiet(QUIET_S)
        reply = telegram.wait_for(lambda talk=talk: with_button(telegram, talk, es.BUTTON_CORRECT))
        telegram.press(reply, es.BUTTON_CORRECT)
        telegram.wait_quiet(QUIET_S)
        asked = telegram.shown(talk.chat)[-1].message_id
        telegram.say(talk.chat, talk.user, f"mejor: {mine} corregido", reply_to=asked)
        telegram.wait_quiet(QUIET_S)
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
    bot, ana, _ = talk_a_lot(telegram, start_bot)
    forget(telegram, ana)
    telegram.fail("getUpdates", 1, "forget_offset")
    telegram.wait_quiet(QUIET_S)
    assert traces(bot.state, [f"{WORD}{ana.user.id}"]) == []
