"""What a log survives: kill -9, a full disk, a second process, a server that goes away."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from tests.training.conftest import CHAT, FACTS, texts
from training import turns
from training.dialogues import Chat, DialogueLog, sqlite_url
from training.errors import LogError
from training.schema import chats, conversations, messages

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from tests.training.conftest import FACTS
from training.dialogues import Chat, DialogueLog
url, chat = sys.argv[1], Chat("telegram", int(sys.argv[2]))
log = DialogueLog(url)
print("open", flush=True)
number = len(log.history(chat)) // 2
while True:
    log.inbox_put(chat.chat_id * 100_000 + number, chat, 1, f"carta {number}")
    log.append_turn(chat, 1, f"pregunta {number}", f"respuesta {number}" * 50, FACTS,
                    update_id=chat.chat_id * 100_000 + number)
    print(number, flush=True)
    number += 1
"""


class Writer:
    """A process that writes turns to one chat and says so after each."""

    def __init__(self, url: str, chat_id: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WRITER, url, str(chat_id)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        self.acknowledged = -1
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.acknowledged = int(line)

    def wait_for(self, number: int) -> None:
        while self.acknowledged < number:
            assert self.process.poll() is None, "the writer died"
            time.sleep(0.005)

    def kill(self) -> int:
        """kill -9 -> the last turn it said was stored."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.acknowledged


def all_texts(log: DialogueLog, chat: Chat) -> list[str]:
    """Of a chat however long it is; `history` gives only the last of it."""
    query = (
        select(messages.c.text)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .join(chats, chats.c.id == conversations.c.chat)
        .where(chats.c.platform == chat.platform, chats.c.chat_id == chat.chat_id)
        .order_by(messages.c.id)
    )
    return list(log.database.read(lambda conn: conn.execute(query).scalars()))


def assert_whole(log: DialogueLog, chat: Chat, at_least: int) -> None:
    spoken = all_texts(log, chat)
    num_turns = len(spoken) // 2
    assert at_least <= num_turns - 1 <= at_least + 1, "nothing said to be stored is lost, one turn may be unsaid"
    expected = [text for n in range(num_turns) for text in (f"pregunta {n}", f"respuesta {n}" * 50)]
    assert spoken == expected


# kill -9


def test_nothing_acknowledged_is_lost_by_kill_9(url: str) -> None:
    draw = random.Random(9)
    reached = -1
    for _ in range(4):
        writer = Writer(url, 77)
        writer.wait_for(reached + draw.randrange(3, 12))
        time.sleep(draw.random() * 0.02)
        reached = writer.kill()
        with DialogueLog(url) as log:
            assert_whole(log, CHAT, reached)
            assert log.recovered_from is None
            pending = [row for row in log.inbox_pending() if row.state == "answered"]
            assert len(pending) == len(texts(log)) // 2, (
                "an update is answered where its turn is stored, and only there"
            )
            reached = len(texts(log)) // 2 - 1


def test_two_processes_write_at_once_and_one_is_killed(url: str) -> None:
    writers = [Writer(url, 1), Writer(url, 2)]
    with DialogueLog(url) as log:
        for number in range(10):
            log.append_turn(CHAT, 1, f"pregunta {number}", f"respuesta {number}" * 50, FACTS)
        first = writers[0].kill()
        writers[1].wait_for(writers[1].acknowledged + 3)
        log.append_turn(CHAT, 1, "pregunta 10", "respuesta 10" * 50, FACTS)
        second = writers[1].kill()
        assert_whole(log, CHAT, 10)
        assert_whole(log, Chat("telegram", 1), first)
        assert_whole(log, Chat("telegram", 2), second)


def test_a_log_that_is_locked_too_long_says_so(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        log.database.tidy()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        cursor = log.database._connection.connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA busy_timeout = 100")
        with pytest.raises(LogError, match="was locked by another process"):
            log.append_turn(CHAT, 1, "hola", "re", FACTS)
        assert log.history(CHAT) == [], "reading goes on meanwhile"
        connection.execute("ROLLBACK")
        connection.close()
        log.append_turn(CHAT, 1, "hola", "re", FACTS)
        assert texts(log) == ["hola", "re"]


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"no tmpfs of 1 MB can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_nothing_is_half_stored_and_it_goes_on_when_freed(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    url = sqlite_url(small_disk / "dialogues.db")
    with DialogueLog(url) as log:
        stored = 0
        full = None
        while full is None:
            try:
                log.append_turn(CHAT, 1, f"pregunta {stored}", "r" * 20_000, FACTS)
                stored += 1
            except LogError as error:
                full = str(error)
        assert full == f"{small_disk / 'dialogues.db'}: the disk is full, nothing was stored: free some space"
        assert stored > 3
        for _ in range(3):
            with pytest.raises(LogError, match="disk is full"):
                log.append_turn(CHAT, 1, "perdida", "r" * 60_000, FACTS)
        while True:  # until not even a small one fits
            try:
                number = log.stats()["inbox_pending"]
                assert log.inbox_put(int(number), CHAT, 1, "c" * 3000)
            except LogError:
                break
        accepted = log.stats()["inbox_pending"]
        assert texts(log)[0::2] == [f"pregunta {n}" for n in range(stored)], "what is there can be read"
        ballast.unlink()
        log.append_turn(CHAT, 1, f"pregunta {stored}", "re", FACTS)
        assert log.inbox_put(10_000, CHAT, 1, "{}")
    with DialogueLog(url) as log:
        assert log.recovered_from is None
        assert texts(log)[0::2] == [f"pregunta {n}" for n in range(stored + 1)]
        assert [row.update_id for row in log.inbox_pending()] == [*range(int(accepted)), 10_000]


def test_old_versions_of_pages_do_not_fill_the_disk(small_disk: Path) -> None:
    """The write-ahead log grows to 4 MB before SQLite empties it by itself: more than is there."""
    with DialogueLog(sqlite_url(small_disk / "dialogues.db")) as log:
        for number in range(150):
            assert log.inbox_put(number, CHAT, 1, "c" * 9000)
            log.inbox_done(number)
        assert log.stats()["inbox_pending"] == 0


def test_forgetting_on_a_full_disk_says_what_is_missing_and_can_be_asked_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with DialogueLog(sqlite_url(small_disk / "dialogues.db")) as log:
        for _ in range(4):
            log.append_turn(CHAT, 77, "secretodeana " * 1000, "re", FACTS)
        log.database.tidy()
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
        with pytest.raises(LogError, match="free some space"):
            log.forget(77)
        ballast.unlink()
        log.forget(77)
        assert subprocess.run(["grep", "-rqaF", "secretodeana", small_disk]).returncode == 1
        assert log.stats()["messages"] == 0


def test_a_disk_too_full_to_open_a_log_is_one_line(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_040_000))
    with pytest.raises(LogError) as caught:
        DialogueLog(sqlite_url(small_disk / "dialogues.db"))
    assert "\n" not in str(caught.value)
    (small_disk / "ballast").unlink()
    DialogueLog(sqlite_url(small_disk / "dialogues.db")).close()


@pytest.mark.postgres
def test_a_server_that_went_away_is_an_error_and_then_works_again(postgres: str, postgres_server: object) -> None:
    with DialogueLog(postgres) as log:
        log.append_turn(CHAT, 1, "uno", "re", FACTS)
        with postgres_server.connect() as connection:  # type: ignore[attr-defined]
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tertulia'"
            )
        log.append_turn(CHAT, 1, "dos", "re", FACTS)  # the pool looks before it leaps

        def work(conn: Connection) -> None:
            turns.append_turn(conn, CHAT, 1, "tres", "re", FACTS)
            with postgres_server.connect() as connection:  # type: ignore[attr-defined]
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tertulia'"
                )

        with pytest.raises(LogError) as caught:
            log.database.write(work)
        assert "\n" not in str(caught.value)
        log.append_turn(CHAT, 1, "cuatro", "re", FACTS)
        assert texts(log)[0::2] == ["uno", "dos", "cuatro"]
