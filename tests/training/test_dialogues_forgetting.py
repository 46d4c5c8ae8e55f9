"""Forgetting: nothing of a person is left in any file, byte by byte, and others lose nothing."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.postgres import Server
from tests.training.conftest import FACTS
from training import turns
from training.dialogues import Chat, DialogueLog, sqlite_url
from training.errors import LogCompactionError

ANA, LUIS = 77, 88
SECRET, KEPT = "secretodeana", "cosadeluis"
IDS = (31415, 92653, 58979)
STORED_IDS = "31415,92653,58979"  # one number alone may stand in a time's microseconds
OWN, GROUP, OTHER = Chat("telegram", ANA), Chat("telegram", -5), Chat("telegram", LUIS)
Search = Callable[[str], list[Path]]


@pytest.fixture
def files_with(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Search:
    """Which files of the database hold a text. Another process reads: closing a file here would drop SQLite's locks."""
    if not url.startswith("sqlite"):
        server: Server = request.getfixturevalue("postgres_server")
        return lambda word: server.files_with(word.encode())

    def search(word: str) -> list[Path]:
        done = subprocess.run(["grep", "-rlaF", "--", word, tmp_path], capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return [Path(line) for line in done.stdout.splitlines()]

    return search


def talk(log: DialogueLog) -> None:
    """Texts of two people mixed, short and over several pages, in every place that holds text."""
    draw = random.Random(4)
    log.set_consent(ANA, True)
    log.set_consent(LUIS, True)

    def work(conn: Connection) -> None:
        for number in range(400):
            user, word, own = draw.choice([(ANA, SECRET, OWN), (LUIS, KEPT, OTHER)])
            said = f"{word}{number} " * draw.choice([1, 3, 30, 900])
            chat = draw.choice([own, GROUP])
            turns.append_turn(
                conn,
                chat,
                user,
                said,
                f"{word} re",
                FACTS,
                reply_ids=IDS if user == ANA else (1, 2),
                external_id=number,
            )
            if number % 7 == 0:
                turns.replace_reply(conn, chat, f"{word} otra", FACTS)
            if number % 11 == 0:
                turns.undo(conn, chat)
            if number % 50 == 0:
                turns.new_conversation(conn, chat)

    log.database.write(work)
    for user, word, own in ((ANA, SECRET, OWN), (LUIS, KEPT, OTHER)):
        _, reply = log.append_turn(own, user, f"{word} propio", f"{word} re", FACTS)
        log.correct(own, reply, user, f"{word} mejor")
        log.rate(own, reply, user, 1)
        log.set_system(own, f"{word} carácter")
        for number, state in enumerate(("new", "answered", "done", "failed")):
            update = user * 10 + number
            log.inbox_put(update, own if number else GROUP, user, f'{{"text": "{word} carta {number}"}}')
            if state != "new":
                log.inbox_reply(update, f"{word} respuesta {number}")
            if state == "done":
                log.inbox_done(update)
            if state == "failed":
                log.inbox_failed(update, "KeyError", 10)
    log.set_system(GROUP, f"{SECRET} del grupo", user_id=ANA)
    _, reply = log.append_turn(GROUP, LUIS, f"{KEPT} último", f"{KEPT} re", FACTS)
    log.correct(GROUP, reply, ANA, f"{SECRET} corrige a Luis")


def test_nothing_of_a_forgotten_person_is_left_in_any_file(url: str, files_with: Search) -> None:
    with DialogueLog(url) as log:
        talk(log)
        kept = log.export_user(LUIS)
        assert files_with(SECRET)
        assert files_with(STORED_IDS)
        assert log.forget(ANA) > 400
        for word in (SECRET, STORED_IDS):
            assert files_with(word) == []
        assert files_with(KEPT), "the search looks where text is"
        found = log.export_user(LUIS)
        found["chats"] = [chat for chat in found["chats"] if chat["chat_id"] == LUIS]  # the group is now his alone
        assert found == kept
        nothing = log.export_user(ANA)
        assert {name: value for name, value in nothing.items() if value} == {"user_id": ANA}
        assert log.consent(ANA) is None
        assert log.system(GROUP) == ""
        assert {row.user_id for row in log.inbox_pending()} == {LUIS}
        assert not log.inbox_put(ANA * 10, OWN, ANA, "{}"), "a repeated update is still known"
        log.append_turn(OWN, ANA, "vuelve", "bienvenida", FACTS)
    for word in (SECRET, STORED_IDS):
        assert files_with(word) == []


def test_a_block_survives_forgetting(url: str) -> None:
    with DialogueLog(url) as log:
        log.append_turn(OWN, ANA, "hola", "re", FACTS)
        log.set_blocked(ANA, True)
        log.forget(ANA)
        assert log.blocked(ANA)


def test_an_id_is_never_given_again(url: str) -> None:
    """A button under a forgotten reply must not name another person's."""
    with DialogueLog(url) as log:
        _, last = log.append_turn(OWN, ANA, "hola", "re", FACTS)
        log.forget(ANA)
    with DialogueLog(url) as log:
        first, _ = log.append_turn(OTHER, LUIS, "hola", "re", FACTS)
        assert first > last


def test_withdrawing_and_purging_reach_the_files_too(url: str, files_with: Search) -> None:
    with DialogueLog(url) as log:
        talk(log)
        for chat in (OWN, GROUP):
            log.new_conversation(chat)
        log.set_system(OWN, "")
        log.set_system(GROUP, "")
        for number in range(4):
            log.inbox_done(ANA * 10 + number)
        log.set_consent(ANA, False)
        assert files_with(SECRET) == []
        log.append_turn(OWN, ANA, f"{SECRET} de nuevo", f"{SECRET} re", FACTS)
        log.purge(datetime.now(UTC) + timedelta(seconds=1))
        assert files_with(SECRET) == []
        assert files_with(KEPT)


def test_a_conversation_without_consent_leaves_the_file_with_it(tmp_path: Path) -> None:
    """No VACUUM for each /nueva: secure_delete and an empty write-ahead log do, but where SQLite moved rows about."""
    with DialogueLog(sqlite_url(tmp_path / "dialogues.db")) as log:
        for number in range(120):
            log.append_turn(OWN, ANA, f"{SECRET} {number} " * (1 + number % 5 * 60), f"{SECRET} re", FACTS)
            if number % 9 == 0:
                log.undo(OWN)
            log.append_turn(OTHER, LUIS, f"{KEPT} {number}", f"{KEPT} re", FACTS)
        log.new_conversation(OWN)
        done = subprocess.run(["grep", "-rlaF", SECRET, tmp_path], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")


def test_another_reader_delays_forgetting_which_says_so(tmp_path: Path) -> None:
    """An open reader keeps the write-ahead log from being emptied; asking again finishes it."""
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        log.append_turn(OWN, ANA, SECRET, "re", FACTS)
        log.database._busy_timeout_s = 0.2  # type: ignore[attr-defined]
        code = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN'); "
            "c.execute('SELECT * FROM messages').fetchall(); print('reading', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdin is not None
            assert reader.stdout.readline() == b"reading\n"
            with pytest.raises(LogCompactionError, match=r"another process.*ask again"):
                log.forget(ANA)
            assert log.export_user(ANA)["messages"] == [], "the rows are gone all the same"
            size = log.database.size_bytes()
            for _ in range(5):
                with pytest.raises(LogCompactionError):
                    log.forget(ANA)
            assert log.database.size_bytes() < size + 50_000, "each attempt would add a copy of the database"
            reader.stdin.close()
            reader.wait(30)
        log.forget(ANA)
        done = subprocess.run(["grep", "-rlaF", SECRET, tmp_path], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")


def test_damaged_files_that_were_set_aside_go_with_the_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        log.append_turn(OWN, ANA, SECRET, "re", FACTS)
    for name, days in (("dialogues.db.damaged-20260101T000000Z-1", 40), ("dialogues.db.damaged-20260201T000000Z-1", 5)):
        (tmp_path / name).write_bytes(path.read_bytes())
        (tmp_path / f"{name}-wal").write_bytes(path.read_bytes())
        for one in (name, f"{name}-wal"):
            at = (datetime.now(UTC) - timedelta(days=days)).timestamp()
            os.utime(tmp_path / one, (at, at))
    with DialogueLog(sqlite_url(path)) as log:
        log.purge(datetime.now(UTC) - timedelta(days=30))
        assert sorted(one.name for one in tmp_path.glob("*damaged*")) == [
            "dialogues.db.damaged-20260201T000000Z-1",
            "dialogues.db.damaged-20260201T000000Z-1-wal",
        ]
        log.forget(ANA)
        assert list(tmp_path.glob("*damaged*")) == []
