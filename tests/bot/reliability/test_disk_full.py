"""The log on a full disk: what cannot be stored is not confirmed, the bot waits, and goes on when there is room."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Talk, wait_answered
from tests.emulator import Emulator


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    folder.mkdir()
    # Room for a few megabytes of write-ahead log: SQLite empties it when it has 4
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave not one byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue
    return ballast


def test_nothing_is_confirmed_that_is_not_stored(telegram: Emulator, start_bot: StartBot, small_disk: Path) -> None:
    bot = start_bot()
    talks = Talk.begin(telegram, 3)
    for talk in talks:
        talk.say()
    wait_answered(telegram, talks)
    ballast = fill(small_disk)
    for _ in range(5):  # SQLite may still have room inside its own files
        for talk in talks:
            talk.say()
    time.sleep(2)
    bot.kill()  # what it had in memory only is gone: now the log and Telegram must have all
    ballast.unlink()
    bot.start()
    total = wait_answered(telegram, talks)
    assert (total.lost, total.in_order) == ([], True)


def test_it_goes_on_by_itself_when_there_is_room(telegram: Emulator, start_bot: StartBot, small_disk: Path) -> None:
    bot = start_bot()
    talks = Talk.begin(telegram, 3)
    ballast = fill(small_disk)
    for _ in range(2):
        for talk in talks:
            talk.say()
    telegram.wait_for(lambda: "full" in bot.output.lower())
    assert telegram.num_pending() > 0
    ballast.unlink()
    total = wait_answered(telegram, talks)
    assert bot.running
    assert (total.lost, total.in_order) == ([], True)
