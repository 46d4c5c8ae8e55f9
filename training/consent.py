"""Who lets their text be used in training: a ledger to which lines are only added, and what follows from the last one.

Always: nobody who was not asked consents. Text that nothing is left to be kept for is erased: the row stays with its
numbers (limits and figures count it), its words and token ids are gone.
"""

from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, insert, or_, select, update

from training.schema import add_unless_there, blocks, consents, conversations, corrections, messages, now


def of(conn: Connection, user_id: int) -> bool | None:
    """The last word of a user; None if there is none."""
    query = select(consents.c.granted).where(consents.c.user_id == user_id).order_by(consents.c.id.desc()).limit(1)
    return conn.execute(query).scalar()


def record(conn: Connection, user_id: int, granted: bool, text_version: int = 1, source: str = "bot") -> int:
    """Add a line to the ledger, unless it would say what the last one says -> rows erased.

    A withdrawal erases at once what only training kept.
    """
    row = {"granted": granted, "text_version": text_version, "source": source}
    last = select(*(consents.c[name] for name in row)).where(consents.c.user_id == user_id)
    if conn.execute(last.order_by(consents.c.id.desc()).limit(1)).first() != tuple(row.values()):
        conn.execute(insert(consents).values(user_id=user_id, **row, created_at=now()))
    return 0 if granted else _withdraw(conn, user_id)


def without(user: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that the user in a column does not consent now."""
    last = (
        select(consents.c.granted)
        .where(consents.c.user_id == user)
        .order_by(consents.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(last, false()).is_(false())


def of_user(user_id: int) -> ColumnElement[bool]:
    """The condition that a message is a user's, or answers one; in an imported chat a person may have answered."""
    asked = messages.alias()
    answers = messages.c.reply_to.in_(select(asked.c.id).where(asked.c.user_id == user_id))
    return or_(messages.c.user_id == user_id, answers)


def erase_text(conn: Connection, which: ColumnElement[bool]) -> int:
    """Erase the text of messages, and the corrections of it, for good -> how many messages had one."""
    which = and_(which, messages.c.text.is_not(None))
    conn.execute(delete(corrections).where(corrections.c.message_id.in_(select(messages.c.id).where(which))))
    return conn.execute(update(messages).where(which).values(text=None, ids=None)).rowcount


def drop_corrections(conn: Connection, which: ColumnElement[bool]) -> int:
    """Delete the corrections of such messages that were written without consent."""
    there = corrections.c.message_id.in_(select(messages.c.id).where(which))
    return conn.execute(delete(corrections).where(there, without(corrections.c.user_id))).rowcount


def is_blocked(conn: Connection, user_id: int) -> bool:
    return conn.execute(select(blocks.c.user_id).where(blocks.c.user_id == user_id)).first() is not None


def block(conn: Connection, user_id: int, blocked: bool) -> None:
    if blocked:
        add_unless_there(conn, blocks, {"user_id": user_id, "created_at": now()})
    else:
        conn.execute(delete(blocks).where(blocks.c.user_id == user_id))


def _withdraw(conn: Connection, user_id: int) -> int:
    """Only what an open conversation still needs as context stays, until that is closed -> rows erased."""
    closed = messages.c.conversation_id.in_(select(conversations.c.id).where(conversations.c.closed_at.is_not(None)))
    num_erased = erase_text(conn, and_(of_user(user_id), or_(closed, messages.c.state != "live")))
    return num_erased + conn.execute(delete(corrections).where(corrections.c.user_id == user_id)).rowcount
