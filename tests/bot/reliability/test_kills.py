"""kill -9 at random moments: no message is lost, few are answered twice, the order within a chat holds."""

from __future__ import annotations

import random
import time

import pytest

from tests.bot.reliability.bot_process import BotProcess
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Account, Talk, wait_answered
from tests.emulator import Emulator


def talk_and_kill(telegram: Emulator, bot: BotProcess, *, messages: int, chats: int, kills: int, seed: int) -> Account:
    """`messages` spread over chats and time, the bot killed meanwhile and started again at once."""
    rng = random.Random(seed)
    talks = Talk.begin(telegram, chats)
    order = [talk for talk in talks for _ in range(messages // chats)]
    rng.shuffle(order)
    shares = [order[at::kills] for at in range(kills)]
    for share in shares:
        moment = rng.uniform(0.0, 0.8)
        for talk in share:
            talk.say()
            time.sleep(rng.uniform(0.0, 0.5) * moment / len(share))
        time.sleep(moment / 2)
        bot.kill()
        bot.start(wait=rng.random() < 0.8)
    return wait_answered(telegram, talks, 120)


def check(account: Account, kills: int) -> None:
    assert account.lost == []
    assert account.repeated <= 2 * kills
    assert account.in_order


@pytest.mark.parametrize("mode", ["polling", "webhook"])
def test_two_kills_lose_nothing(telegram: Emulator, start_bot: StartBot, mode: str, webhook: dict[str, str]) -> None:
    bot = start_bot(ECHO_WORD_S="0.05", **(webhook if mode == "webhook" else {}))
    check(talk_and_kill(telegram, bot, messages=16, chats=4, kills=2, seed=1), 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_kills_lose_nothing(telegram: Emulator, start_bot: StartBot, seed: int) -> None:
    bot = start_bot(ECHO_WORD_S="0.05")
    check(talk_and_kill(telegram, bot, messages=40, chats=8, kills=20, seed=seed), 20)


def test_a_kill_between_delivery_and_its_note_repeats_one_reply_at_most(
    telegram: Emulator, start_bot: StartBot
) -> None:
    """The worst moment: Telegram has the reply and the bot does not know it yet."""
    bot = start_bot()
    talk, other = Talk.begin(telegram, 2)
    telegram.fail("sendMessage", 1, "slow_after", chat=talk.chat, seconds=5.0)
    talk.say()
    telegram.wait_for(lambda: talk.answers())
    bot.kill()
    talk.say()
    other.say()
    bot.start()
    account = wait_answered(telegram, [talk, other])
    assert (account.lost, account.in_order) == ([], True)
    assert account.repeated <= 1
