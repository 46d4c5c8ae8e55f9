"""The trial of a candidate on a share of the chats: people's thumbs-down end it when they exceed the control's.

The test: chats are drawn by a hash, so chats are what is compared, each counted once, as one that gave a thumbs-down to
a reply of its adapter or as one that did not; one person's anger is one chat. One-sided exact test of Fisher (1935) on
that table. It is looked at more than once: whenever the candidate's replies have grown by half, and the k-th look has
the level 0.05 / (k (k + 1)), which over all looks adds up to 0.05. So a candidate that is no worse is rolled back in at
most one trial of twenty, however long it lasts. A look sees what was in the log when its reply came, so looking again,
or after a restart, finds the same.
"""

from dataclasses import dataclass
from datetime import datetime
from math import comb

from sqlalchemy import Connection, and_, case, func, select

from training.dialogues import DialogueLog
from training.registry.pointer import Pointer
from training.registry.registry import Registry
from training.schema import conversations, messages, ratings, replies

LEVEL = 0.05
FIRST_LOOK = 8  # replies of the candidate
GROWTH = 1.5


@dataclass(frozen=True)
class Trial:
    """Chats that met each adapter, and how many of them gave one of its replies a thumbs-down; `level` of this look."""

    candidate_chats: int
    candidate_down: int
    control_chats: int
    control_down: int
    look: int
    level: float

    @property
    def p_value(self) -> float:
        """How often chance alone would give the candidate so many of the thumbs-down, or more."""
        return fisher(self.candidate_down, self.candidate_chats, self.control_down, self.control_chats)

    @property
    def is_worse(self) -> bool:
        return self.p_value <= self.level

    def __str__(self) -> str:
        return (
            f"thumbs-down in {self.candidate_down} of {self.candidate_chats} chats, and in {self.control_down} of "
            f"{self.control_chats} with the control (look {self.look}: p {self.p_value:.2g}, level {self.level:.2g})"
        )


def fisher(down: int, chats: int, control_down: int, control_chats: int) -> float:
    """P(at least `down` of all the thumbs-down fall on the candidate's chats) if they fell blindly."""
    both, all_down = chats + control_chats, down + control_down
    ways = sum(comb(all_down, n) * comb(both - all_down, chats - n) for n in range(down, min(chats, all_down) + 1))
    return ways / comb(both, chats)


def looks(num_replies: int) -> list[int]:
    """At how many replies of the candidate the log was to be looked at so far."""
    found, at = [], float(FIRST_LOOK)
    while at <= num_replies:
        found.append(int(at))
        at *= GROWTH
    return found


def watch(registry: Registry, log: DialogueLog) -> Trial | None:
    """End the trial that is on if its candidate is worse -> the look that showed it, None otherwise."""
    pointer = registry.serving()
    if pointer.candidate is None:
        return None
    shown = next((trial for trial in log.database.read(lambda conn: trials(conn, pointer)) if trial.is_worse), None)
    if shown is not None:
        registry.stop_share(candidate=pointer.candidate, reasons=(str(shown),))
    return shown


def trials(conn: Connection, pointer: Pointer) -> list[Trial]:
    """Every look at the trial that was due so far, the first one first."""
    began_at = _began_at(pointer)
    of_candidate = (
        select(messages.c.created_at)
        .join(replies, replies.c.message_id == messages.c.id)
        .where(messages.c.created_at >= began_at, replies.c.adapter == pointer.candidate)
        .order_by(messages.c.created_at, messages.c.id)
    )
    times = conn.execute(of_candidate).scalars().all()
    return [
        Trial(
            *_count(conn, pointer.candidate, began_at, times[num - 1]),
            *_count(conn, pointer.adapter, began_at, times[num - 1]),
            look,
            LEVEL / (look * (look + 1)),
        )
        for look, num in enumerate(looks(len(times)), 1)
    ]


def _began_at(pointer: Pointer) -> datetime:
    began = (line.at for line in reversed(pointer.changes) if (line.what, line.adapter) == ("share", pointer.candidate))
    return next(began, pointer.since)


def _count(conn: Connection, adapter: str | None, since: datetime, until: datetime) -> tuple[int, int]:
    """Chats that this adapter answered in that time, and how many of them said that a reply of it is bad."""
    is_bad = and_(ratings.c.message_id == messages.c.id, ratings.c.value == -1, ratings.c.created_at <= until)
    chats = (
        select(conversations.c.chat, func.count(ratings.c.id).label("bad"))
        .select_from(messages)
        .join(replies, replies.c.message_id == messages.c.id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .outerjoin(ratings, is_bad)
        .where(messages.c.created_at >= since, messages.c.created_at <= until)
        .where(replies.c.adapter.is_(None) if adapter is None else replies.c.adapter == adapter)
        .where(func.coalesce(replies.c.finish, "") != "rule")
        .group_by(conversations.c.chat)
        .subquery()
    )
    counted = select(func.count(), func.coalesce(func.sum(case((chats.c.bad > 0, 1), else_=0)), 0))
    num_chats, num_bad = conn.execute(counted.select_from(chats)).one()
    return int(num_chats), int(num_bad)
