"""Damaged bytes: the file is set aside, a new log begun, whoever meets the damage and whenever."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.training.conftest import CHAT, FACTS, texts
from training import turns
from training.dialogues import DialogueLog, sqlite_url

ROOT = Path(__file__).parents[2]


def fill(log: DialogueLog, num_turns: int, size: int = 40_000) -> None:
    """Enough text to lie on many pages, more than SQLite keeps in memory."""

    def work(conn: Connection) -> None:
        for number in range(num_turns):
            turns.append_turn(conn, CHAT, 1, f"{number} ".ljust(size, "x"), "re", FACTS)

    log.database.write(work)


def damage(path: Path, first_page: int = 2) -> None:
    """Noise over all pages from the first one given."""
    noise = random.Random(1).randbytes(path.stat().st_size - 4096 * (first_page - 1))
    with path.open("r+b") as file:
        file.seek(4096 * (first_page - 1))
        file.write(noise)


@pytest.mark.parametrize("first_page", [1, 2, 20])
def test_a_damaged_file_is_set_aside_at_opening_and_a_new_one_begun(tmp_path: Path, first_page: int) -> None:
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        fill(log, 30)
        _, old = log.append_turn(CHAT, 1, "última", "re", FACTS)
    damage(path, first_page)
    spoilt = path.read_bytes()
    with DialogueLog(sqlite_url(path)) as log:
        aside = log.recovered_from
        assert aside is not None
        assert aside.read_bytes() == spoilt
        assert aside.name.startswith("dialogues.db.damaged-2")
        assert str(aside) in (log.notice or "")
        assert log.history(CHAT) == []
        first, reply = log.append_turn(CHAT, 1, "nueva", "re", FACTS)
        assert first > old, "a button under an old message must not name a new one"
        assert not log.rate(CHAT, old, 1, 1)
        assert log.rate(CHAT, reply, 1, 1)
    with DialogueLog(sqlite_url(path)) as log:
        assert (log.recovered_from, log.notice) == (None, None)
        assert texts(log) == ["nueva", "re"]


def test_a_file_cut_short_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        fill(log, 30)
    os.truncate(path, path.stat().st_size // 2 + 100)
    with DialogueLog(sqlite_url(path)) as log:
        assert log.recovered_from is not None
        log.append_turn(CHAT, 1, "nueva", "re", FACTS)


def test_damage_met_in_use_is_set_aside_and_the_question_answered_anew(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as log:
        fill(log, 300)
        log.database.tidy()
        code = "import sys; from tests.training.test_dialogues_damage import *; damage(Path(sys.argv[1]), 20)"
        # From another process: closing the file in this one would drop the locks that SQLite holds.
        subprocess.run([sys.executable, "-c", code, path], check=True, cwd=ROOT)
        assert log.recovered_from is None
        assert log.history(CHAT) == []
        assert log.recovered_from is not None
        assert log.recovered_from.stat().st_size > 10_000_000
        log.inbox_put(1, CHAT, 1, "{}")
        log.append_turn(CHAT, 1, "nueva", "re", FACTS, update_id=1)
        assert texts(log) == ["nueva", "re"]
    with DialogueLog(sqlite_url(path)) as log:
        assert texts(log) == ["nueva", "re"]


def test_others_follow_when_one_begins_a_new_file(tmp_path: Path) -> None:
    """A bot that went on writing to the file set aside would lose what it confirms."""
    path = tmp_path / "dialogues.db"
    with DialogueLog(sqlite_url(path)) as bot:
        bot.append_turn(CHAT, 1, "antes", "re", FACTS)
        path.rename(tmp_path / "moved.db")
        (tmp_path / "dialogues.db-wal").rename(tmp_path / "moved.db-wal")
        with DialogueLog(sqlite_url(path)) as other:
            other.append_turn(CHAT, 2, "de otro", "re", FACTS)
        bot.append_turn(CHAT, 1, "después", "re", FACTS)
        assert texts(bot) == ["de otro", "re", "después", "re"]
