"""Who is let in, and how much one person may say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.incoming import Incoming
from bot.limits import Limits, is_old
from bot.settings import Settings
from training.dialogues import Chat

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
INCOMING = Incoming(1, "message", Chat("telegram", 7), 7, 1, NOW)


def limits(**settings: object) -> Limits:
    return Limits(Settings(_env_file=None, **settings))


def test_without_a_list_everybody_may_talk_with_one_those_on_it_and_admins() -> None:
    group = replace(INCOMING, chat=Chat("telegram", -100), user_id=8)
    assert limits().is_allowed(INCOMING)
    listed = limits(allowed_ids=(9, -100), admin_ids=(7,))
    assert listed.is_allowed(INCOMING)
    assert listed.is_allowed(group)
    assert not listed.is_allowed(replace(group, chat=Chat("telegram", -101)))


def test_a_minute_is_over_sixty_seconds_after_its_first_message() -> None:
    some = limits(messages_per_minute=2, messages_per_day=0)
    assert some.refuse(7, NOW) is None
    assert some.refuse(7, NOW + timedelta(seconds=30)) is None
    first = some.refuse(7, NOW + timedelta(seconds=40))
    assert first is not None
    assert (first.kind, first.wait_s) == ("fast", 20)
    assert some.is_first_time(7, first)
    assert not some.is_first_time(7, first)
    assert some.refuse(8, NOW) is None
    assert some.refuse(7, NOW + timedelta(seconds=61)) is None
    refused = some.refuse(7, NOW + timedelta(seconds=62))
    assert refused is not None
    assert some.is_first_time(7, refused)


def test_nobody_waits_for_more_than_a_minute() -> None:
    """Two chats that are behind: an older message may come after newer ones."""
    some = limits(messages_per_minute=1, messages_per_day=0)
    assert some.refuse(7, NOW) is None
    refused = some.refuse(7, NOW - timedelta(hours=1))
    assert refused is not None
    assert refused.wait_s == 60


def test_a_day_counts_what_the_log_knows_of_earlier_runs() -> None:
    some = limits(messages_per_minute=0, messages_per_day=3)
    assert some.needs_count(7)
    some.set_count(7, 2)
    assert not some.needs_count(7)
    assert some.refuse(7, NOW) is None
    refused = some.refuse(7, NOW)
    assert refused is not None
    assert refused.kind == "day"
    assert some.is_first_time(7, refused)


def test_zero_is_no_limit() -> None:
    some = limits(messages_per_minute=0, messages_per_day=0)
    assert not some.needs_count(7)
    assert all(some.refuse(7, NOW) is None for _ in range(1000))


def test_old_is_what_was_written_before() -> None:
    now = datetime.now(UTC)
    assert is_old(now - timedelta(seconds=11), 10)
    assert not is_old(now - timedelta(seconds=9), 10)
