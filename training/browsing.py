"""The log as its operator reads it: the list of conversations, one of them, all of them as JSON values."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, and_, func, select

from training import consent
from training.database import Database
from training.schema import chats, conversations, corrections, messages, ratings, replies

_PAGE = 100


def recent(conn: Connection, limit: int) -> list[dict[str, Any]]:
    """The last conversations, newest first: number, chat, times, how many messages still have their text."""
    has = and_(messages.c.conversation_id == conversations.c.id, messages.c.text.is_not(None))
    query = (
        select(
            conversations.c.id,
            chats.c.platform,
            chats.c.chat_id,
            chats.c.thread_id,
            conversations.c.opened_at,
            conversations.c.closed_at,
            func.count(messages.c.id).label("num_messages"),
        )
        .join(chats, chats.c.id == conversations.c.chat)
        .outerjoin(messages, has)
        .group_by(conversations.c.id, chats.c.id)
        .order_by(conversations.c.id.desc())
        .limit(limit)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def conversation(conn: Connection, number: int, consented_only: bool = False) -> dict[str, Any] | None:
    """One conversation as JSON values; None if there is none. Erased, undone and superseded messages are left out."""
    query = (
        select(chats, conversations.c.opened_at, conversations.c.closed_at)
        .join(conversations, conversations.c.chat == chats.c.id)
        .where(conversations.c.id == number)
    )
    head = conn.execute(query).first()
    if head is None:
        return None
    spoken = (
        select(messages, replies.c.model, replies.c.adapter)
        .outerjoin(replies, replies.c.message_id == messages.c.id)
        .where(messages.c.conversation_id == number, messages.c.text.is_not(None), messages.c.state == "live")
        .order_by(messages.c.id)
    )
    if consented_only:
        spoken = spoken.where(~consent.without(messages.c.user_id))
    opinions = _opinions(conn, number, consented_only)
    values: dict[str, Any] = {
        "conversation": number,
        "platform": head.platform,
        "chat_id": head.chat_id,
        "thread_id": head.thread_id,
        "opened_at": head.opened_at.isoformat(),
        "messages": [{**_message(row), **opinions.get(row.id, {})} for row in conn.execute(spoken)],
    }
    if head.closed_at is not None:
        values["closed_at"] = head.closed_at.isoformat()
    return values


def every(database: Database, consented_only: bool) -> Iterator[dict[str, Any]]:
    """All conversations that have text, oldest first; read in pieces, so that an export holds up nobody."""
    last = 0
    while True:
        query = select(conversations.c.id).where(conversations.c.id > last).order_by(conversations.c.id).limit(_PAGE)

        def page(conn: Connection, query: Any = query) -> tuple[int | None, list[dict[str, Any]]]:
            numbers = conn.execute(query).scalars().all()
            found = [conversation(conn, number, consented_only) for number in numbers]
            return (numbers[-1] if numbers else None), [one for one in found if one and one["messages"]]

        reached, found = database.read(page)
        if reached is None:
            return
        yield from found
        last = reached


def _message(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"role": row.role, "content": row.text, "user_id": row.user_id}
    values |= {"id": row.id, "created_at": row.created_at.isoformat()}
    if row.model is not None:
        values |= {"model": row.model, "adapter": row.adapter}
    return values


def _opinions(conn: Connection, number: int, consented_only: bool) -> dict[int, dict[str, Any]]:
    """Of each message that has them: the sum of its thumbs, and its corrections."""
    there = select(messages.c.id).where(messages.c.conversation_id == number)
    found: dict[int, dict[str, Any]] = {}
    thumbs = select(ratings.c.message_id, func.sum(ratings.c.value)).where(ratings.c.message_id.in_(there))
    for message_id, value in conn.execute(thumbs.group_by(ratings.c.message_id)):
        found[message_id] = {"rating": int(value)}
    better = select(corrections).where(corrections.c.message_id.in_(there)).order_by(corrections.c.id)
    if consented_only:
        better = better.where(~consent.without(corrections.c.user_id))
    for row in conn.execute(better):
        found.setdefault(row.message_id, {}).setdefault("corrections", []).append(row.text)
    return found
