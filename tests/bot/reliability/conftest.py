"""A bot process against an emulator; whatever a test does, neither the token nor what people said is in its output."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bot.reliability.bot_process import ECHO, BotProcess
from tests.bot.reliability.talks import WORD
from tests.emulator import Emulator

TOKEN = "987654321:AAHsecretoSecretoSecreto_secreto-12345"
StartBot = Callable[..., BotProcess]


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator(TOKEN) as emulator:
        yield emulator


@pytest.fixture
def start_bot(telegram: Emulator, tmp_path: Path) -> Iterator[StartBot]:
    """start_bot(module, **settings): a bot that polls already; the same folder each time, unless `folder` is given."""
    bots: list[BotProcess] = []

    def start(
        module: str = ECHO,
        folder: Path = tmp_path,
        wait: bool = True,
        emulator: Emulator = telegram,
        **settings: str | int,
    ) -> BotProcess:
        bots.append(BotProcess(emulator, folder, module, **settings))
        return bots[-1].start(wait=wait)

    yield start
    for bot in bots:
        bot.close()
        output = bot.output
        assert telegram.token not in output
        assert telegram.token.partition(":")[2] not in output
        assert WORD not in output


@pytest.fixture
def webhook() -> dict[str, str]:
    """Settings with which a bot takes updates by webhook, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"TERTULIA_WEBHOOK_URL": f"http://127.0.0.1:{port}/", "TERTULIA_WEBHOOK_PORT": str(port)}
