"""When `tertulia train --every 7d --min-new 200` trains, and when it waits."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.durations import parse_duration
from bot.errors import BotError
from bot.scheduling import OWN_OPTIONS, why_not, without
from bot.settings import Settings
from training import runs
from training.dialogues import Chat, DialogueLog, ReplyFacts
from training.runs import Run

WEEK = timedelta(days=7)
FACTS = ReplyFacts("m", None, 1, 1, None, 0.1, {}, "stop")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, state_dir=tmp_path)


def talk(settings: Settings, count: int, *, consents: bool = True) -> list[int]:
    """Turns of a person -> ids of their messages and replies."""
    rows: list[int] = []
    with DialogueLog(settings.log_url()) as log:
        log.set_consent(7, consents)
        for number in range(count):
            said = f"¿qué es lo que pasó en el año {number}?", f"En el año {number} pasó algo digno de contar."
            rows += log.append_turn(Chat("telegram", 7), 7, *said, FACTS)
    return rows


def ended(settings: Settings, row_ids: list[int], days_ago: float = 0.0) -> Run:
    run = Run.begin(settings.runs_dir, {})
    run.state["began_at"] = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
    run.keep(runs.SNAPSHOT, {"data_hash": "", "counts": {}, "row_ids": row_ids})
    for phase in runs.PHASES:
        run.finish(phase, 1.0)
    return run


def test_the_first_run_waits_for_enough_messages_that_may_be_used(settings: Settings) -> None:
    talk(settings, 3)
    assert "6 new messages may be learnt from, 8 are wanted" in str(why_not(settings, WEEK, 8))
    assert why_not(settings, WEEK, 6) is None


def test_messages_without_consent_do_not_count(settings: Settings) -> None:
    talk(settings, 3, consents=False)
    assert "0 new messages" in str(why_not(settings, WEEK, 1))


def test_the_next_run_waits_for_its_time_and_for_messages_that_the_last_one_had_not(settings: Settings) -> None:
    rows = talk(settings, 3)
    ended(settings, rows, days_ago=6.9)
    talk(settings, 3)
    assert "the next is due" in str(why_not(settings, WEEK, 1))
    shutil.rmtree(settings.runs_dir)
    ended(settings, rows, days_ago=7.1)
    assert why_not(settings, WEEK, 6) is None
    assert "6 new messages may be learnt from, 7 are wanted" in str(why_not(settings, WEEK, 7))


def test_what_the_last_run_saw_and_dropped_is_not_new(settings: Settings) -> None:
    """Messages that a filter drops counted again each week, so that it trained without any new one."""
    rows = talk(settings, 3)
    ended(settings, rows[:2], days_ago=8).keep(runs.SNAPSHOT, {"row_ids": rows[:2], "seen_ids": rows})
    assert "0 new messages may be learnt from" in str(why_not(settings, WEEK, 1))


def test_an_unfinished_run_is_always_due(settings: Settings) -> None:
    ended(settings, [])
    Run.begin(settings.runs_dir, {})
    assert why_not(settings, WEEK, 10_000) is None


def test_a_run_that_was_given_up_does_not_count(settings: Settings) -> None:
    talk(settings, 1)
    Run.begin(settings.runs_dir, {}).give_up("for this test")
    assert why_not(settings, WEEK, 2) is None


def test_each_run_is_told_all_options_but_the_schedule() -> None:
    args = ["train", "--every", "7d", "--rank", "4", "--min-new=200", "--every=1d", "--data", "a"]
    assert without(args, OWN_OPTIONS) == ["train", "--rank", "4", "--data", "a"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text, "--every") == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "0h", "1w", "7 días"])
def test_what_is_no_time_is_refused_naming_the_option(text: str) -> None:
    with pytest.raises(BotError, match=r"--every is .*expected a number with s, m, h or d"):
        parse_duration(text, "--every")
