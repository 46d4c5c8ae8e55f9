"""A Bot API server, bots on it, and somebody who talks to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bot.commands.asking import Start
from tests.bot.telegram_fixture import BotThread
from tests.emulator import Chat, Emulator, User


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
