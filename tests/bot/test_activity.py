"""Whether somebody is being answered: between processes, also when one of them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bot.activity import FILE, Activity

HOLD = "from pathlib import Path; import sys, time; from bot.activity import Activity\n"
HOLD += "with Activity(Path(sys.argv[1])).replying(): print('replying', flush=True); time.sleep(60)"


def test_it_is_quiet_where_nobody_was_ever_answered(tmp_path: Path) -> None:
    assert Activity(tmp_path / "none").is_quiet(3600.0)


def test_it_is_not_quiet_while_one_of_two_replies_is_made(tmp_path: Path) -> None:
    """The end of the first reply must not hide the second."""
    activity = Activity(tmp_path)
    with activity.replying():
        with activity.replying():
            assert not activity.is_quiet(0.0)
        assert not activity.is_quiet(0.0)
    assert activity.is_quiet(0.0)


def test_quiet_counts_from_the_end_of_the_last_reply(tmp_path: Path) -> None:
    activity = Activity(tmp_path)
    with activity.replying():
        os.utime(tmp_path / FILE, (0, 0))  # it began long ago
    assert not activity.is_quiet(30.0)
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / FILE, (an_hour_ago, an_hour_ago))
    assert activity.is_quiet(30.0)


def test_a_killed_bot_is_quiet_at_once(tmp_path: Path) -> None:
    """A file that only a living process removes would keep training from going on for ever."""
    bot = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert bot.stdout is not None
    bot.stdout.readline()
    assert not Activity(tmp_path).is_quiet(0.0)
    bot.kill()
    bot.wait()
    bot.stdout.close()
    assert Activity(tmp_path).is_quiet(0.0)


def test_a_reply_is_made_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A state folder that cannot be used must not keep the chat from answering."""
    blocker = tmp_path / "a file"
    blocker.write_text("")
    with Activity(blocker).replying():
        pass
