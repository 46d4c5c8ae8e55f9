"""What leaves the log for good, and what a person may see of it before.

Always: of a person who is forgotten nothing stays but a block, if there is one: the number alone, against somebody who
would come back by forgetting. The consent ledger's lines go too. A hash of them would be no less personal, since
Telegram's numbers are few enough to try them all, and without the text there is no use left whose consent they prove.
The database's `compact` must follow: until then erased rows are only marked in the files.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, exists, or_, select, update

from training import consent, inbox_table
from training.schema import blocks, chats, consents, conversations, corrections, inbox, messages, ratings, replies


def forget(conn: Connection, user_id: int, up_to: int | None = None) -> int:
    """Delete a person's messages and the replies to them, corrections, ratings, settings, consent and inbox -> rows.

    A chat where nobody else wrote goes whole; in a group what others said stays. `up_to` is the update that asked.
    """
    # The inbox first: a reply that is stored at this moment is through then, and goes with the rest.
    rows = inbox_table.forget(conn, user_id, up_to)
    own_chats = _own_chats(conn, user_id)
    own_conversations = select(conversations.c.id).where(conversations.c.chat.in_(own_chats))
    for table in (corrections, ratings):
        rows += conn.execute(delete(table).where(table.c.user_id == user_id)).rowcount
    theirs = or_(consent.of_user(user_id), messages.c.conversation_id.in_(own_conversations))
    rows += conn.execute(delete(messages).where(theirs)).rowcount
    rows += conn.execute(delete(chats).where(chats.c.id.in_(own_chats))).rowcount
    empty = ~exists().where(messages.c.conversation_id == conversations.c.id)
    rows += conn.execute(delete(conversations).where(empty, conversations.c.closed_at.is_not(None))).rowcount
    theirs = chats.c.system_by == user_id
    rows += conn.execute(update(chats).where(theirs).values(system="", system_by=None)).rowcount
    return rows + conn.execute(delete(consents).where(consents.c.user_id == user_id)).rowcount


def purge(conn: Connection, older_than: datetime) -> int:
    """Erase text from before `older_than` that nobody lets be used in training -> messages erased."""
    old = and_(messages.c.created_at < older_than, consent.without(messages.c.user_id))
    turn = messages.alias()
    erased = select(turn.c.id).where(turn.c.role == "user", turn.c.text.is_(None))
    num_erased = consent.erase_text(conn, old)
    # A later reply to an erased message (/repetir) would stand alone.
    num_erased += consent.erase_text(conn, messages.c.reply_to.in_(erased))
    old_correction = and_(corrections.c.created_at < older_than, consent.without(corrections.c.user_id))
    conn.execute(delete(corrections).where(old_correction))
    return num_erased


def export_user(conn: Connection, user_id: int) -> dict[str, Any]:
    """All that is stored of a person, as JSON values."""
    own_chats = _own_chats(conn, user_id)
    spoken = (
        select(
            chats.c.platform, chats.c.chat_id, chats.c.thread_id, messages, replies
        )  # of a reply with what it was made with
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .join(chats, chats.c.id == conversations.c.chat)
        .outerjoin(replies, replies.c.message_id == messages.c.id)
        .where(consent.of_user(user_id))
        .order_by(messages.c.id)
    )
    set_by = or_(chats.c.id.in_(own_chats), chats.c.system_by == user_id)
    return {
        "user_id": user_id,
        "messages": _plain(conn, spoken),
        "ratings": _rows(conn, ratings, user_id),
        "corrections": _rows(conn, corrections, user_id),
        "consents": _rows(conn, consents, user_id),
        "chats": _plain(conn, select(chats).where(set_by).order_by(chats.c.id)),
        "inbox": _rows(conn, inbox, user_id),
        "blocked": bool(_rows(conn, blocks, user_id)),
    }


def _own_chats(conn: Connection, user_id: int) -> list[int]:
    """Private chats, and those where nobody else wrote."""
    wrote = (
        select(messages.c.id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(conversations.c.chat == chats.c.id)
        .correlate(chats)
    )
    alone = and_(
        wrote.where(messages.c.user_id == user_id).exists(),
        ~wrote.where(messages.c.user_id != user_id).exists(),
        or_(chats.c.system_by.is_(None), chats.c.system_by == user_id),
    )
    private = chats.c.chat_id == user_id
    return list(conn.execute(select(chats.c.id).where(or_(private, alone))).scalars())


def _rows(conn: Connection, table: Table, user_id: int) -> list[dict[str, Any]]:
    return _plain(conn, select(table).where(table.c.user_id == user_id).order_by(*table.primary_key))


def _plain(conn: Connection, query: Any) -> list[dict[str, Any]]:
    return [
        {name: _json(value) for name, value in row.items() if value is not None}
        for row in conn.execute(query).mappings()
    ]


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
