"""The pace: one chat's wait is its own, previews give way to messages, the whole stays under Telegram's limit."""

import asyncio
import time

import pytest

from bot.pacing import GROUP_S, PER_SECOND, PRIVATE_S, Pacing


class Clock:
    """time.monotonic and asyncio.sleep without waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(*waits: object) -> None:
    async def one_after_another() -> None:
        for wait in waits:
            await wait  # type: ignore[misc]

    coroutine = one_after_another()
    with pytest.raises(StopIteration):
        coroutine.send(None)


@pytest.mark.parametrize(("chat_id", "spacing_s"), [(7, PRIVATE_S), (-7, GROUP_S)])
def test_messages_of_a_chat_keep_their_distance(clock: Clock, chat_id: int, spacing_s: float) -> None:
    pacing = Pacing()
    begin = clock.now
    run(*(pacing.wait(chat_id) for _ in range(4)))
    assert clock.now - begin == pytest.approx(3 * spacing_s)


def test_a_flooded_chat_waits_alone(clock: Clock) -> None:
    pacing = Pacing()
    pacing.flooded(7, 30.0)
    begin = clock.now
    run(pacing.wait(8))
    assert clock.now == begin
    assert not pacing.take(7)
    run(pacing.wait(7))
    assert clock.now - begin == pytest.approx(30.0)


def test_many_chats_together_stay_under_the_limit(clock: Clock) -> None:
    pacing = Pacing()
    begin = clock.now
    run(*(pacing.wait(chat_id) for chat_id in range(1, 301)))
    assert clock.now - begin >= (300 - PER_SECOND) / PER_SECOND - 0.01


def test_previews_leave_room_for_messages(clock: Clock) -> None:
    pacing = Pacing()
    shown = sum(pacing.take(chat_id) for chat_id in range(1, 100))
    assert 0 < shown < PER_SECOND
    begin = clock.now
    run(pacing.wait(500))
    assert clock.now == begin


def test_previews_of_a_chat_keep_their_distance_and_do_not_delay_its_message(clock: Clock) -> None:
    pacing = Pacing()
    assert pacing.take(7)
    assert not pacing.take(7)
    begin = clock.now
    run(pacing.wait(7))
    assert clock.now == begin
    clock.now += PRIVATE_S * 1.3
    assert pacing.take(7)
