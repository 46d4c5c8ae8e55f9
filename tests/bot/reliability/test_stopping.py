"""SIGTERM with a long queue: it ends soon, what was not answered is stored and answered after the next start, once."""

from __future__ import annotations

import time

import pytest

from tests.bot.reliability.bot_process import BotProcess
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Account, Talk, wait_answered
from tests.emulator import Emulator

LIMIT_S = 20.0


def stop_in_the_middle(telegram: Emulator, bot: BotProcess, chats: int, each: int) -> tuple[float, int, Account]:
    """(seconds to stop, answered before the restart, the account at the end)."""
    talks = Talk.begin(telegram, chats)
    for _ in range(each):
        for talk in talks:
            talk.say()
    telegram.wait_for(lambda: any(talk.answers() for talk in talks))
    seconds, code = bot.stop()
    assert code == 0, bot.output[-2000:]
    before = sum(len(talk.answers()) for talk in talks)
    bot.settings["ECHO_WORD_S"] = "0.01"
    bot.start()
    return seconds, before, wait_answered(telegram, talks)


def test_a_long_queue_is_answered_after_the_restart(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot(ECHO_WORD_S="0.2")
    seconds, before, account = stop_in_the_middle(telegram, bot, chats=6, each=8)
    assert seconds < LIMIT_S
    assert before < 48
    assert (account.lost, account.repeated, account.in_order) == ([], 0, True)


@pytest.mark.slow
def test_a_reply_that_takes_a_minute_does_not_hold_the_end_up(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot(ECHO_WORD_S="20")
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    telegram.wait_for(lambda: telegram.confirmed(talk.update_ids[0]))
    time.sleep(1)
    seconds, code = bot.stop()
    assert (code, seconds < LIMIT_S) == (0, True)
    bot.settings["ECHO_WORD_S"] = "0.01"
    bot.start()
    assert wait_answered(telegram, [talk]).lost == []


def test_while_telegram_is_away_it_stops_too(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot()
    talks = Talk.begin(telegram, 3)
    for talk in talks:
        talk.say()
    telegram.fail("*", None, "500")
    telegram.wait_for(lambda: any(call.status == 500 for call in telegram.calls("sendMessage")))
    seconds, code = bot.stop()
    assert (code, seconds < LIMIT_S) == (0, True)
    telegram.heal()
    bot.start()
    account = wait_answered(telegram, talks)
    assert (account.lost, account.repeated) == ([], 0)
