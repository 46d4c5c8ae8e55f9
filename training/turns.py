"""Conversations of the log: what was said in a chat, in order, and what is taken back.

Always: a message and its reply are stored together; a chat has at most one open conversation; every function here
works inside the caller's transaction, and on PostgreSQL holds the chat's row so that two workers keep its order.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from training import consent, inbox_table
from training.errors import NothingToReplace
from training.records import Chat, LoggedMessage, ReplyFacts
from training.schema import add_unless_there, chats, conversations, messages, now, replies

# More messages than a model's context holds. Beyond twice as many the oldest are left out, so many at a time: the
# prompts of the next turns then begin alike. (With 20,000 messages reading and rendering all took 1.1 s a reply.)
HISTORY = 500


def history(conn: Connection, chat: Chat) -> list[LoggedMessage]:
    """The last turns of the open conversation, oldest first; undone, superseded and erased ones are not among them."""
    is_open = select(conversations.c.id).join(chats, chats.c.id == conversations.c.chat)
    conversation = conn.execute(is_open.where(is_chat(chat), conversations.c.closed_at.is_(None))).scalar()
    said = and_(messages.c.conversation_id == conversation, messages.c.state == "live", messages.c.text.is_not(None))
    count = conn.execute(select(func.count()).where(said)).scalar_one()
    keep = count if count < 2 * HISTORY else HISTORY + count % HISTORY
    query = select(messages).where(said).order_by(messages.c.id.desc()).limit(keep)
    found = [logged(row) for row in conn.execute(query)][::-1]
    if keep < count and found[0].role == "assistant":
        del found[0]  # what it answers is not there
    return found


def append_turn(
    conn: Connection,
    chat: Chat,
    user_id: int,
    text: str,
    reply: str,
    facts: ReplyFacts,
    *,
    reply_ids: tuple[int, ...] | None = None,
    update_id: int | None = None,
    external_id: int | None = None,
    replaces: int | None = None,
) -> tuple[int, int]:
    """Store a message and its reply -> their ids. Asked again for an update that is answered: the ids it has.

    `replaces`: the message that was edited; its turn is taken back if it is the last one. Raises Forgotten.
    """
    if update_id is not None:
        before = inbox_table.answer_of(conn, update_id)
        if before is not None:
            asked = conn.execute(select(messages.c.reply_to).where(messages.c.id == before)).scalar()
            return asked or before, before
    chat_key = hold(conn, chat)
    conversation = _open_conversation(conn, chat_key)
    if replaces is not None:
        last = _last(conn, chat, "user")
        if last is not None and last.id == replaces:
            _take_back(conn, replaces)
    at = now()
    user_row = add_message(conn, conversation, "user", user_id, text, at, external_id=external_id)
    reply_row = _add_reply(conn, conversation, user_id, user_row, reply, facts, reply_ids, at)
    if update_id is not None:
        inbox_table.answered(conn, update_id, chat, user_id, reply, reply_row)
    return user_row, reply_row


def replace_reply(
    conn: Connection,
    chat: Chat,
    reply: str,
    facts: ReplyFacts,
    *,
    reply_ids: tuple[int, ...] | None = None,
    update_id: int | None = None,
    answers: int | None = None,
) -> int:
    """Store another reply to the last message -> its id. Raises NothingToReplace, Forgotten.

    The one before stays, superseded, if the person it was for lets it be used in training; else it is erased.
    `answers` is the message that the new one was made for: it may have been erased since, and another be the last.
    """
    if update_id is not None:
        before = inbox_table.answer_of(conn, update_id)
        if before is not None:
            return before
    hold(conn, chat)
    last = _last(conn, chat, "assistant")
    if last is None or answers not in (None, last.reply_to):
        raise NothingToReplace(f"chat {chat.chat_id} has no reply that another could take the place of")
    old = messages.c.id == last.id
    conn.execute(update(messages).where(old).values(state="superseded"))
    consent.erase_text(conn, and_(old, consent.without(messages.c.user_id)))
    new = _add_reply(conn, last.conversation_id, last.user_id, last.reply_to, reply, facts, reply_ids, now())
    if update_id is not None:
        inbox_table.answered(conn, update_id, chat, last.user_id, reply, new)
    return new


def undo(conn: Connection, chat: Chat, *, update_id: int | None = None, answers: tuple[str, str] | None = None) -> bool:
    """Take the last turn back: its text is erased, whatever the consent. False if there is none.

    With `update_id` its inbox row is answered with the first of `answers`, or with the second if there was nothing;
    if it was answered before, nothing more is taken back.
    """
    hold(conn, chat)
    if update_id is not None:
        assert answers is not None
        before = inbox_table.reply_of(conn, update_id)
        if before is not None:
            return before == answers[0]
    last = _last(conn, chat, "user")
    if last is not None:
        _take_back(conn, last.id)
    if update_id is not None and answers is not None:
        inbox_table.fixed_reply(conn, update_id, answers[last is None])
    return last is not None


def new_conversation(conn: Connection, chat: Chat) -> None:
    """Close the open conversation; what was said in it without consent is erased."""
    chat_key = hold(conn, chat)
    is_open = and_(conversations.c.chat == chat_key, conversations.c.closed_at.is_(None))
    conversation = conn.execute(select(conversations.c.id).where(is_open)).scalar()
    if conversation is None:
        return
    conn.execute(update(conversations).where(is_open).values(closed_at=now()))
    consent.erase_text(conn, and_(messages.c.conversation_id == conversation, consent.without(messages.c.user_id)))
    consent.drop_corrections(conn, messages.c.conversation_id == conversation)


def set_preference(conn: Connection, chat: Chat, name: str, value: float | None) -> dict[str, float | int]:
    """Change one preference of a chat, None: take it away -> all of them."""
    here = chats.c.id == hold(conn, chat)
    values = dict(conn.execute(select(chats.c.preferences).where(here)).scalar_one())
    values.pop(name, None)
    if value is not None:
        values[name] = value
    conn.execute(update(chats).where(here).values(preferences=values))
    return values


def set_external_id(conn: Connection, message_id: int, external_id: int) -> None:
    conn.execute(update(messages).where(messages.c.id == message_id).values(external_id=external_id))


def logged(row: Row[Any]) -> LoggedMessage:
    """A row of `messages` that has its text."""
    ids = None if row.ids is None else tuple(row.ids)
    return LoggedMessage(row.id, row.role, row.text, ids, row.created_at, row.external_id)


def hold(conn: Connection, chat: Chat) -> int:
    """The chat's row, made if it is new, and held until the transaction ends."""
    keys = {"platform": chat.platform, "chat_id": chat.chat_id, "thread_id": chat.thread_id}
    query = select(chats.c.id).where(is_chat(chat)).with_for_update()
    found = conn.execute(query).scalar()
    if found is None:
        add_unless_there(conn, chats, {**keys, "system": "", "preferences": {}})
        found = conn.execute(query).scalar_one()
    return int(found)


def add_message(
    conn: Connection, conversation: int, role: str, user_id: int, text: str, at: datetime, **more: Any
) -> int:
    """Store one live message -> its id; `more` are columns of `messages`."""
    statement = insert(messages).values(
        conversation_id=conversation, role=role, user_id=user_id, text=text, state="live", created_at=at, **more
    )
    return int(conn.execute(statement.returning(messages.c.id)).scalar_one())


def _add_reply(
    conn: Connection,
    conversation: int,
    user_id: int,
    reply_to: int,
    reply: str,
    facts: ReplyFacts,
    reply_ids: tuple[int, ...] | None,
    at: datetime,
) -> int:
    ids = None if reply_ids is None else list(reply_ids)
    row = add_message(conn, conversation, "assistant", user_id, reply, at, ids=ids, reply_to=reply_to)
    conn.execute(insert(replies).values(message_id=row, **{**vars(facts), "sampling": dict(facts.sampling)}))
    return row


def _take_back(conn: Connection, user_row: int) -> None:
    turn = (messages.c.id == user_row) | (messages.c.reply_to == user_row)
    conn.execute(update(messages).where(turn).values(state="undone"))
    consent.erase_text(conn, turn)


def _open_conversation(conn: Connection, chat_key: int) -> int:
    is_open = and_(conversations.c.chat == chat_key, conversations.c.closed_at.is_(None))
    found = conn.execute(select(conversations.c.id).where(is_open)).scalar()
    if found is not None:
        return int(found)
    statement = insert(conversations).values(chat=chat_key, opened_at=now()).returning(conversations.c.id)
    return int(conn.execute(statement).scalar_one())


def _last(conn: Connection, chat: Chat, role: str) -> Row[Any] | None:
    query = (
        select(messages)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .join(chats, chats.c.id == conversations.c.chat)
        .where(is_chat(chat), conversations.c.closed_at.is_(None), messages.c.role == role, messages.c.state == "live")
        .where(messages.c.text.is_not(None))
        .order_by(messages.c.id.desc())
        .limit(1)
    )
    return conn.execute(query).first()


def is_chat(chat: Chat) -> ColumnElement[bool]:
    return and_(chats.c.platform == chat.platform, chats.c.chat_id == chat.chat_id, chats.c.thread_id == chat.thread_id)


def move_chat(conn: Connection, platform: str, old_id: int, new_id: int) -> None:
    """A group became a supergroup: what was said under the old number goes on under the new one."""
    for thread in (
        conn.execute(select(chats.c.thread_id).where(chats.c.platform == platform, chats.c.chat_id == old_id))
        .scalars()
        .all()
    ):
        old, new = Chat(platform, old_id, thread), Chat(platform, new_id, thread)
        key = hold(conn, old)
        taken = conn.execute(select(chats.c.id).where(is_chat(new))).scalar()
        if taken is None:
            conn.execute(update(chats).where(chats.c.id == key).values(chat_id=new_id))
            continue
        new_conversation(conn, old)
        conn.execute(update(conversations).where(conversations.c.chat == key).values(chat=taken))
        conn.execute(delete(chats).where(chats.c.id == key))
    inbox_table.move_chat(conn, platform, old_id, new_id)
