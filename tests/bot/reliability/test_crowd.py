"""Two hundred chats at once: everybody gets an answer or is told that the bot is busy."""

from __future__ import annotations

import pytest

from tests.bot.reliability.bot_process import ECHO, EMBEDDED
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.crowd import ask_at_once
from tests.emulator import Emulator


@pytest.mark.parametrize(("module", "count"), [(ECHO, 60), pytest.param(EMBEDDED, 200, marks=pytest.mark.slow)])
def test_everybody_is_answered_or_told(telegram: Emulator, start_bot: StartBot, module: str, count: int) -> None:
    bot = start_bot(module)
    crowd = ask_at_once(telegram, count, 900)
    assert (crowd.num_nothing, crowd.num_answered + crowd.num_busy) == (0, count)
    assert crowd.num_answered > 0
    assert bot.running


def test_with_telegrams_own_limits_nobody_is_lost(start_bot: StartBot) -> None:
    """The emulator refuses what goes too fast, as Telegram does."""
    with Emulator(flood=True) as telegram:
        start_bot(emulator=telegram)
        assert ask_at_once(telegram, 60, 120).num_answered == 60
