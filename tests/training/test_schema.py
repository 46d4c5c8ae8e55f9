"""How a log is opened: the migrations, what is refused, and what SQLite and PostgreSQL were told."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from tests.training.conftest import FACTS, OpenLog
from training import migrations
from training.database import parse_url
from training.dialogues import Chat, DialogueLog, sqlite_url
from training.errors import LogError
from training.schema import metadata

CHAT = Chat("telegram", 1)


def _columns(conn: Connection) -> dict[str, set[tuple[Any, ...]]]:
    look = inspect(conn)
    return {
        name: {(one["name"], one["nullable"], type(one["type"]).__name__) for one in look.get_columns(name)}
        for name in look.get_table_names()
        if name != "log_versions"
    }


def _uniques(conn: Connection) -> dict[str, set[tuple[str, ...]]]:
    look = inspect(conn)
    return {
        name: {tuple(one["column_names"]) for one in look.get_unique_constraints(name)}
        for name in look.get_table_names()
        if name != "log_versions"
    }


def test_the_migrations_make_the_tables_that_the_code_uses(log: DialogueLog, open_log: OpenLog) -> None:
    """A column added to schema.py without a migration would fail at a user's, never in a test on fresh tables."""

    def compare(conn: Connection) -> None:
        migrated, uniques = _columns(conn), _uniques(conn)
        for table in reversed(metadata.sorted_tables):
            table.drop(conn)
        metadata.create_all(conn)
        declared = _columns(conn)
        # An id that counts by itself is a plain INTEGER to SQLite.
        same = {"INTEGER": "BIGINT"} if conn.dialect.name == "sqlite" else {}

        def plain(columns: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
            return {(name, nullable or name == "id", same.get(kind, kind)) for name, nullable, kind in columns}

        assert {name: plain(columns) for name, columns in migrated.items()} == {
            name: plain(columns) for name, columns in declared.items()
        }
        assert uniques == _uniques(conn)

    log.database.write(compare)


def test_a_log_is_migrated_once_and_found_again(open_log: OpenLog) -> None:
    open_log().append_turn(CHAT, 1, "hola", "buenas", FACTS)
    again = open_log()
    assert [message.text for message in again.history(CHAT)] == ["hola", "buenas"]
    rows = again.database.read(lambda conn: conn.execute(text("SELECT version FROM log_versions")).scalars().all())
    assert rows == list(range(1, len(migrations.MIGRATIONS) + 1))


def test_a_new_migration_keeps_what_is_stored(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    open_log().append_turn(CHAT, 1, "hola", "buenas", FACTS)
    more = ("ALTER TABLE messages ADD COLUMN mood TEXT", "CREATE TABLE moods (id {ID}, at {TIME})")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, more))
    log = open_log()
    assert [message.text for message in log.history(CHAT)] == ["hola", "buenas"]
    log.database.read(lambda conn: conn.execute(text("SELECT mood FROM messages")).all())
    log.database.read(lambda conn: conn.execute(text("SELECT id, at FROM moods")).all())


def test_a_migration_that_fails_leaves_nothing_of_itself(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    open_log()
    broken = ("CREATE TABLE moods (id {ID})", "ALTER TABLE nowhere ADD COLUMN mood TEXT")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
        with pytest.raises(LogError, match="nowhere"):
            open_log()
    log = open_log()
    assert "moods" not in log.database.read(lambda conn: inspect(conn).get_table_names())


def test_a_newer_schema_is_refused_in_one_line(open_log: OpenLog) -> None:
    statement = text("INSERT INTO log_versions SELECT 99, at FROM log_versions WHERE version = 1")
    open_log().database.write(lambda conn: conn.execute(statement))
    with pytest.raises(LogError, match=r"schema 99.*up to \d+: update tertulia") as caught:
        open_log()
    assert "\n" not in str(caught.value)


def test_somebody_elses_tables_are_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(LogError, match=r"other\.db holds other tables \(recipes\)"):
        DialogueLog(sqlite_url(path))
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()


def test_a_file_that_is_not_sqlites_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("the only copy of my notes\n")
    with pytest.raises(LogError, match="is not an SQLite file"):
        DialogueLog(sqlite_url(path))
    assert path.read_text() == "the only copy of my notes\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "has no ://"),
        ("dialogues.db", "has no ://"),
        ("mysql://root:secret@host/db", "begins with 'mysql'"),
        ("postgresql+asyncpg://u:secret@host/db", "begins with 'postgresql\\+asyncpg'"),
        ("postgresql://u:secret@host:port/db", "cannot be read"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://dialogues.db", "names no file"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str, words: str) -> None:
    with pytest.raises(LogError, match=f"DATABASE_URL.*{words}.*expected sqlite:////.*.env.example") as caught:
        DialogueLog(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'tertulia[postgres]'")
    with pytest.raises(LogError, match=r"postgresql://127\.0\.0\.1/log") as caught:
        DialogueLog("postgres://somebody:secret@127.0.0.1:1/log")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=r"cannot be opened .*DATABASE_URL"):
        DialogueLog(sqlite_url(tmp_path / "file" / "dialogues.db"))


@pytest.mark.parametrize("name", ["a b", "a?b=c", "a%20b", "ñandú#1", "a&b"])
def test_any_folder_can_hold_the_log(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "dialogues.db"
    assert parse_url(sqlite_url(path)).database == str(path)
    DialogueLog(sqlite_url(path)).close()
    assert path.stat().st_size > 0


def test_the_file_is_its_owners_alone_and_safe(tmp_path: Path) -> None:
    path = tmp_path / "state" / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        log.append_turn(CHAT, 1, "hola", "buenas", FACTS)
        for name, value in {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}.items():
            assert log.database.read(partial(Connection.scalar, statement=text(f"PRAGMA {name}"))) == value, name
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        assert modes == {"dialogues.db": 0o600, "dialogues.db-wal": 0o600, "dialogues.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_many_may_open_a_new_log_at_once(url: str) -> None:
    """Two processes that create the tables, or switch to the write-ahead log, meet at the same moment."""
    with ThreadPoolExecutor(8) as pool:
        logs = list(pool.map(lambda _: DialogueLog(url), range(8)))
    for number, log in enumerate(logs):
        log.append_turn(CHAT, number, "hola", "buenas", FACTS)
        log.close()
    with DialogueLog(url) as log:
        assert len(log.history(CHAT)) == 16
        assert log.recovered_from is None


@pytest.mark.postgres
def test_postgres_keeps_no_sample_of_anybodys_text(postgres: str, postgres_server: Any) -> None:
    """ANALYZE copies common values into pg_statistic, where /olvidar would not reach them."""
    with DialogueLog(postgres) as log:
        for number in range(50):
            log.append_turn(Chat("telegram", number), number, "palabra secreta", "respuesta secreta", FACTS)
            log.set_system(Chat("telegram", number), "carácter secreto")
            log.inbox_put(number, CHAT, 1, "carta secreta")
    with postgres_server.connect() as connection:
        connection.execute("ANALYZE")
        stats = connection.execute("SELECT * FROM pg_stats WHERE schemaname = 'public'").fetchall()
        assert stats
        assert "secret" not in str(stats)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_importing_the_log_does_not_import_torch() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'psycopg'}"
    code = f"import sys, training.dialogues, training.sqlite_file; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
