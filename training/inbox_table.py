"""The inbox: every update is committed here before it is confirmed, and leaves when its answer is delivered.

Always: an update_id enters once; a row that is done keeps its number against repeats, and no text. Each function works
inside the caller's transaction.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from training.errors import Forgotten
from training.records import Chat, InboxRow
from training.schema import add_unless_there, inbox, now

# Telegram repeats what is not confirmed for a day; twice that is safe.
KEEP_NUMBERS = timedelta(hours=48)
_OPEN = ("new", "answered")
_PENDING = inbox.c.state.in_(_OPEN)
_MAX_ERROR = 200


def put(conn: Connection, update_id: int, chat: Chat, user_id: int | None, payload: str) -> bool:
    """Add an update; False if its number was seen before."""
    return add_unless_there(conn, inbox, _values(update_id, chat, user_id, payload, "new"))


def pending(conn: Connection) -> list[InboxRow]:
    """What is not done, in the order of arrival."""
    return [
        InboxRow(
            update_id=row.update_id,
            chat=Chat(row.platform, row.chat_id, row.thread_id),
            user_id=row.user_id,
            payload=row.payload or "",
            state=row.state,
            reply=row.reply,
            reply_id=row.reply_id,
            attempts=row.attempts,
            received_at=row.received_at,
        )
        for row in conn.execute(select(inbox).where(_PENDING).order_by(inbox.c.id))
    ]


def is_pending(conn: Connection, update_id: int) -> bool:
    return conn.execute(select(inbox.c.id).where(inbox.c.update_id == update_id, _PENDING)).first() is not None


def answer_of(conn: Connection, update_id: int) -> int | None:
    """The message that answers an update already, if it is a turn. Raises Forgotten if it was closed without one."""
    query = select(inbox.c.state, inbox.c.reply_id).where(inbox.c.update_id == update_id)
    row = conn.execute(query.with_for_update()).first()  # held: `forget` waits for what is being stored
    if row is not None and row.reply_id is None and row.state not in _OPEN:
        raise Forgotten(f"update {update_id} was closed before it was answered")
    return None if row is None else row.reply_id


def reply_of(conn: Connection, update_id: int) -> str | None:
    """The answer that an update has already."""
    return conn.execute(select(inbox.c.reply).where(inbox.c.update_id == update_id)).scalar()


def answered(conn: Connection, update_id: int, chat: Chat, user_id: int, reply: str, reply_id: int | None) -> None:
    """Keep the answer until it is delivered. A row that was forgotten meanwhile stays as it is.

    An update that is not there (the file was damaged and begun anew) comes in answered.
    """
    values = {**_values(update_id, chat, user_id, "", "answered"), "reply": reply, "reply_id": reply_id}
    if not add_unless_there(conn, inbox, values):
        change = update(inbox).where(inbox.c.update_id == update_id, _PENDING)
        conn.execute(change.values(state="answered", reply=reply, reply_id=reply_id))


def fixed_reply(conn: Connection, update_id: int, reply: str) -> None:
    """Keep an answer that is no turn of the conversation until it is delivered."""
    conn.execute(update(inbox).where(inbox.c.update_id == update_id, _PENDING).values(state="answered", reply=reply))


def done(conn: Connection, update_id: int) -> None:
    _close(conn, update_id, state="done", error=None)


def begin(conn: Connection, update_id: int) -> int:
    """Count an attempt at an update -> the attempts so far."""
    change = update(inbox).where(inbox.c.update_id == update_id).values(attempts=inbox.c.attempts + 1)
    return conn.execute(change.returning(inbox.c.attempts)).scalar() or 0


def failed(conn: Connection, update_id: int, error: str, attempts: int) -> None:
    """Given up: `error` says why, without anybody's text."""
    _close(conn, update_id, state="failed", error=error[:_MAX_ERROR], attempts=attempts)


def clean(conn: Connection, older_than: datetime) -> int:
    """Delete the numbers of closed rows that came before `older_than`, never younger than 48 hours -> how many."""
    before = min(older_than, now() - KEEP_NUMBERS)
    return conn.execute(delete(inbox).where(~_PENDING, inbox.c.received_at < before)).rowcount


def forget(conn: Connection, user_id: int, up_to: int | None = None) -> int:
    """Of a user's rows, and those of the private chat, keep the update's number only -> how many there were.

    With `up_to`, those that arrived after that update stay.
    """
    theirs = inbox.c.user_id == user_id
    if user_id:  # 0 is the chat of rows that were forgotten
        theirs |= inbox.c.chat_id == user_id
    last = None if up_to is None else conn.execute(select(inbox.c.id).where(inbox.c.update_id == up_to)).scalar()
    if last is not None:
        theirs &= inbox.c.id <= last
    nothing = {"payload": None, "reply": None, "error": None, "user_id": None, "chat_id": 0, "thread_id": 0}
    return conn.execute(update(inbox).where(theirs).values(**nothing, reply_id=None, state="done")).rowcount


def move_chat(conn: Connection, platform: str, old_id: int, new_id: int) -> None:
    change = update(inbox).where(inbox.c.platform == platform, inbox.c.chat_id == old_id, _PENDING)
    conn.execute(change.values(chat_id=new_id))


def _close(conn: Connection, update_id: int, **values: object) -> None:
    change = update(inbox).where(inbox.c.update_id == update_id, _PENDING)
    conn.execute(change.values(payload=None, reply=None, **values))


def _values(update_id: int, chat: Chat, user_id: int | None, payload: str, state: str) -> dict[str, object]:
    return {
        "update_id": update_id,
        "platform": chat.platform,
        "chat_id": chat.chat_id,
        "thread_id": chat.thread_id,
        "user_id": user_id,
        "payload": payload,
        "state": state,
        "attempts": 0,
        "received_at": now(),
    }
