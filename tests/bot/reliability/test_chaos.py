"""Everything at once, by dice: faults of every kind, kills, stops and outages while people talk. Nothing is lost."""

from __future__ import annotations

import random
import time

import pytest

from tests.bot.reliability.bot_process import BotProcess
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Talk, wait_answered
from tests.emulator import Emulator

METHODS = ["sendMessage", "sendMessage", "sendMessageDraft", "editMessageText", "sendChatAction", "getUpdates", "*"]
KINDS = ["429", "500", "502", "bad_json", "cut_before", "cut_after", "slow", "slow_after"]


def trouble(telegram: Emulator, bot: BotProcess, talks: list[Talk], rng: random.Random) -> None:
    """One thing goes wrong."""
    dice = rng.random()
    if dice < 0.7:
        chat = rng.choice([None, rng.choice(talks).chat])
        telegram.fail(rng.choice(METHODS), rng.randint(1, 3), rng.choice(KINDS), chat=chat, retry_after=1, seconds=2.0)
    elif dice < 0.8:
        telegram.outage(rng.uniform(0.2, 3.0))
    elif dice < 0.85:
        telegram.poison()
    elif dice < 0.9:
        telegram.fail("getUpdates", 1, "forget_offset")
    elif dice < 0.95:
        bot.kill()
        bot.start(wait=False)
    else:
        bot.stop()
        bot.start(wait=False)


def chaos(telegram: Emulator, bot: BotProcess, seconds: float, seed: int) -> None:
    rng = random.Random(seed)
    talks = Talk.begin(telegram, 10)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rng.choice(talks).say()
        if rng.random() < 0.3:
            trouble(telegram, bot, talks, rng)
        time.sleep(rng.uniform(0.0, 0.6))
    telegram.heal()
    total = wait_answered(telegram, talks, 180)
    assert (total.lost, total.in_order) == ([], True)


def test_a_short_storm(telegram: Emulator, start_bot: StartBot) -> None:
    chaos(telegram, start_bot(ECHO_WORD_S="0.05"), 4, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_long_storm(telegram: Emulator, start_bot: StartBot, seed: int) -> None:
    chaos(telegram, start_bot(ECHO_WORD_S="0.3"), 90, seed=seed)
