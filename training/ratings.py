"""What people think of a reply: thumbs, and a better answer. One of each a person and reply; the last word holds."""

from sqlalchemy import Connection, select

from training.records import Chat
from training.schema import chats, clean, conversations, corrections, messages, now, put, ratings


def rate(conn: Connection, chat: Chat, reply_id: int, user_id: int, value: int) -> bool:
    """Store 1 or -1; False if there is no such reply in that chat, or it was taken back."""
    assert value in (-1, 1)
    if not _is_reply(conn, chat, reply_id):
        return False
    put(conn, ratings, {"message_id": reply_id, "user_id": user_id}, {"value": value, "created_at": now()})
    return True


def correct(conn: Connection, chat: Chat, reply_id: int, user_id: int, text: str) -> bool:
    """Store a better answer; False if there is no such reply in that chat, its text is erased, or `text` is blank."""
    if not clean(text).strip() or not _is_reply(conn, chat, reply_id, with_text=True):
        return False
    put(conn, corrections, {"message_id": reply_id, "user_id": user_id}, {"text": text, "created_at": now()})
    return True


def _is_reply(conn: Connection, chat: Chat, reply_id: int, with_text: bool = False) -> bool:
    """The chat is compared because the number comes back from a button, and any client can send another."""
    query = (
        select(messages.c.id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .join(chats, chats.c.id == conversations.c.chat)
        .where(messages.c.id == reply_id, messages.c.role == "assistant", messages.c.state != "undone")
        .where(chats.c.platform == chat.platform, chats.c.chat_id == chat.chat_id)
    )
    if with_text:
        query = query.where(messages.c.text.is_not(None))
    return conn.execute(query).first() is not None
