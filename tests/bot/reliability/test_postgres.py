"""The same promises with the log on PostgreSQL: kills and lost connections lose nothing, /olvidar is for good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import postgres
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import WORD, Talk, wait_answered
from tests.bot.reliability.test_forgetting import forget, talk_a_lot
from tests.bot.reliability.test_kills import check, talk_and_kill
from tests.emulator import Emulator

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def running_server() -> Iterator[postgres.Server]:
    if postgres.binaries() is None:
        pytest.skip(postgres.MISSING)
    with postgres.running() as server:
        yield server


@pytest.fixture
def server(running_server: postgres.Server) -> postgres.Server:
    running_server.empty()
    return running_server


def test_two_kills_lose_nothing(telegram: Emulator, start_bot: StartBot, server: postgres.Server) -> None:
    bot = start_bot(ECHO_WORD_S="0.05", DATABASE_URL=server.url)
    check(talk_and_kill(telegram, bot, messages=16, chats=4, kills=2, seed=1), 2)


def test_a_database_that_drops_its_connections_loses_nothing(
    telegram: Emulator, start_bot: StartBot, server: postgres.Server
) -> None:
    bot = start_bot(ECHO_WORD_S="0.05", DATABASE_URL=server.url)
    talks = Talk.begin(telegram, 3)
    for _ in range(3):
        for talk in talks:
            talk.say()
        with server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tertulia'"
            )
    total = wait_answered(telegram, talks)
    assert bot.running
    assert (total.lost, total.repeated, total.in_order) == ([], 0, True)


def test_olvidar_leaves_no_byte(telegram: Emulator, start_bot: StartBot, server: postgres.Server) -> None:
    _, ana, eva = talk_a_lot(telegram, start_bot, DATABASE_URL=server.url)
    mine, hers = f"{WORD}{ana.user.id}".encode(), f"{WORD}{eva.user.id}".encode()
    assert server.files_with(mine)
    forget(telegram, ana)
    assert server.files_with(mine) == []
    assert server.files_with(hers)
