"""Who may talk to the bot and how much: the allow-list, messages a minute and a day.

Always: a limit is told once each time it is reached, not at every message; times are those at which messages were
written, so that a queue answered late counts as it was sent.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from bot.incoming import Incoming
from bot.settings import Settings

MINUTE_S = 60.0


@dataclass
class _Person:
    written: deque[float] = field(default_factory=deque)  # of the last minute, as unix times
    day: datetime | None = None
    num_today: int = 0
    told: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Refusal:
    """Why a message is not answered."""

    kind: Literal["fast", "day"]
    wait_s: int = 0


class Limits:
    """Counts in memory; what was answered earlier today is asked of the log once (`needs_count`, `set_count`)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._people: dict[int, _Person] = {}

    def is_allowed(self, incoming: Incoming) -> bool:
        """True if the person or the group is on the list, or there is no list; admins always are."""
        allowed = self.settings.allowed_ids
        return not allowed or bool({incoming.user_id, incoming.chat.chat_id} & {*allowed, *self.settings.admin_ids})

    def needs_count(self, user_id: int) -> bool:
        """True until the log was asked how much the person has written today."""
        return self.settings.messages_per_day > 0 and self._person(user_id).day != today()

    def set_count(self, user_id: int, count: int) -> None:
        """What the log says of today."""
        person = self._person(user_id)
        person.day, person.num_today = today(), count
        person.told.discard("day")

    def refuse(self, user_id: int, at: datetime) -> Refusal | None:
        """Count a message; a Refusal if it is over a limit (then it does not count)."""
        person = self._person(user_id)
        when = at.timestamp()
        while person.written and person.written[0] <= when - MINUTE_S:
            person.written.popleft()
        a_minute, a_day = self.settings.messages_per_minute, self.settings.messages_per_day
        if a_minute and len(person.written) >= a_minute:
            # At most a minute: of two chats that are behind, the later messages may have come first.
            wait_s = round(person.written[0] + MINUTE_S - when)
            return Refusal("fast", min(max(1, wait_s), round(MINUTE_S)))
        person.told.discard("fast")
        if a_day and person.num_today >= a_day:
            return Refusal("day")
        person.written.append(when)
        person.num_today += 1
        return None

    def is_first_time(self, user_id: int, refusal: Refusal) -> bool:
        """True once, until the limit is kept again."""
        told = self._person(user_id).told
        is_first = refusal.kind not in told
        told.add(refusal.kind)
        return is_first

    def _person(self, user_id: int) -> _Person:
        if len(self._people) > 50_000:
            self._people.clear()  # the day's counts come back from the log
        return self._people.setdefault(user_id, _Person())


def today() -> datetime:
    """Midnight, UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def is_old(at: datetime, seconds: float) -> bool:
    """True if a message was written more than so long ago."""
    return datetime.now(UTC) - at > timedelta(seconds=seconds)
