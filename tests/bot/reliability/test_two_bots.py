"""Two bots with one token: Telegram gives 409 to both in turn; one says so and leaves, the other goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Talk, wait_answered
from tests.emulator import Emulator


@pytest.mark.slow  # it takes four conflicts to be sure
def test_one_of_two_on_different_machines_leaves_saying_so(
    telegram: Emulator, start_bot: StartBot, tmp_path: Path
) -> None:
    first = start_bot()
    folder = tmp_path / "otro"
    folder.mkdir()
    second = start_bot(folder=folder, wait=False)
    telegram.wait_for(lambda: not (first.running and second.running))
    leaves, stays = (first, second) if second.running else (second, first)
    assert leaves.process.returncode == 2
    assert leaves.output.splitlines()[-1].startswith("tertulia: another bot is running with this TELEGRAM_BOT_TOKEN")
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    assert wait_answered(telegram, [talk]).lost == []
    assert stays.running


def test_the_second_on_the_same_log_leaves_too(telegram: Emulator, start_bot: StartBot) -> None:
    first = start_bot()
    second = start_bot(wait=False)
    assert second.wait(60) != 0
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    assert wait_answered(telegram, [talk]).repeated == 0
    assert first.running


def test_a_wrong_token_ends_with_one_line(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot(wait=False, TELEGRAM_BOT_TOKEN="987654321:AAHotroOtroOtroOtroOtroOtro_otro-12345")
    assert bot.wait(60) != 0
    lines = [line for line in bot.output.splitlines() if line.startswith("tertulia:")]
    assert len(lines) == 1
    assert "TELEGRAM_BOT_TOKEN" in lines[0]
    assert "otroOtro" not in bot.output
