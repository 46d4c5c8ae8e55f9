"""Logs on both databases: a file, and a database of its own on a real PostgreSQL server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from tests import postgres as server
from training.dialogues import Chat, DialogueLog, ReplyFacts, sqlite_url
from training.schema import messages

FACTS = ReplyFacts(
    model="embedded",
    adapter=None,
    num_prompt_tokens=12,
    num_reply_tokens=5,
    first_token_s=0.25,
    total_s=1.5,
    sampling={"temperature": 0.8, "seed": 7},
    finish="stop",
)

CHAT = Chat("telegram", 77)
GROUP = Chat("telegram", -1001, 5)
OpenLog = Callable[[], DialogueLog]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[server.Server]:
    if server.binaries() is None:
        pytest.skip(server.MISSING)
    with server.running() as running:
        yield running


@pytest.fixture
def postgres(postgres_server: server.Server) -> str:
    """The URL of an empty database."""
    postgres_server.empty()
    return postgres_server.url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that holds nothing yet, of each kind."""
    return sqlite_url(tmp_path / "dialogues.db") if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
def open_log(url: str) -> Iterator[OpenLog]:
    """Opens the log at `url`, any number of times; all are closed in the end."""
    logs: list[DialogueLog] = []

    def open_one() -> DialogueLog:
        logs.append(DialogueLog(url))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


@pytest.fixture
def log(open_log: OpenLog) -> DialogueLog:
    return open_log()


def texts(log: DialogueLog, chat: Chat = CHAT) -> list[str]:
    return [message.text for message in log.history(chat)]


def stored(log: DialogueLog) -> list[str | None]:
    return list(log.database.read(lambda conn: conn.execute(select(messages.c.text).order_by(messages.c.id)).scalars()))
