"""The tables of the dialogue log, as SQLAlchemy sees them; `migrations.py` creates and changes them.

Always: times are aware and UTC; text has neither NUL nor lone surrogates; `messages.text` NULL means erased. The id of
a message is never used again, so an id that a training snapshot names and the log lacks was forgotten.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite

metadata = MetaData()

_UNSTORABLE = dict.fromkeys((0, *range(55296, 57344)), "�")


def clean(text: str) -> str:
    """The text with U+FFFD for NUL and lone surrogates, which a database cannot hold."""
    return text.translate(_UNSTORABLE)


def now() -> datetime:
    return datetime.now(UTC)


class UtcTime(TypeDecorator[datetime]):
    """An aware time; SQLite keeps none of the zone, so UTC is put in and taken out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a naive time was to be stored"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Text that both databases can hold, whatever a user sent."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class JsonText(TypeDecorator[Any]):
    """A JSON value as ASCII text: escaped, so nothing in it is unstorable."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def _id() -> Column[int]:
    return Column("id", BigInteger, primary_key=True)


chats = Table(
    "chats",
    metadata,
    _id(),
    Column("platform", Text, nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("thread_id", BigInteger, nullable=False),
    Column("system", CleanText, nullable=False),
    Column("system_by", BigInteger),  # who wrote it, so that forgetting the person erases it in a group too
    Column("preferences", JsonText, nullable=False),
    UniqueConstraint("platform", "chat_id", "thread_id"),
)
conversations = Table(  # at most one of a chat has no closed_at
    "conversations",
    metadata,
    _id(),
    Column("chat", BigInteger, ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
)
messages = Table(
    "messages",
    metadata,
    _id(),
    Column("conversation_id", BigInteger, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("role", Text, nullable=False),
    Column("user_id", BigInteger, nullable=False),  # of a reply: who was answered
    Column("text", CleanText),
    Column("ids", JsonText),
    Column("reply_to", BigInteger),  # of a reply: the message that it answers
    Column("state", Text, nullable=False),  # live, superseded (/repetir) or undone (/deshacer)
    Column("created_at", UtcTime, nullable=False),
    Column("external_id", BigInteger),  # the platform's number of the message
)
replies = Table(
    "replies",
    metadata,
    Column("message_id", BigInteger, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("model", Text, nullable=False),
    Column("adapter", Text),
    Column("num_prompt_tokens", Integer, nullable=False),
    Column("num_reply_tokens", Integer, nullable=False),
    Column("first_token_s", Float),
    Column("total_s", Float, nullable=False),
    Column("sampling", JsonText, nullable=False),
    Column("finish", Text),
)
ratings = Table(
    "ratings",
    metadata,
    _id(),
    Column("message_id", BigInteger, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("value", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("message_id", "user_id"),
)
corrections = Table(
    "corrections",
    metadata,
    _id(),
    Column("message_id", BigInteger, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("text", CleanText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("message_id", "user_id"),
)
consents = Table(  # a ledger: rows are added, never changed; the last one of a user holds
    "consents",
    metadata,
    _id(),
    Column("user_id", BigInteger, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("text_version", Integer, nullable=False),  # which wording of the notice the person answered
    Column("source", Text, nullable=False),  # bot or import
    Column("created_at", UtcTime, nullable=False),
)
blocks = Table(
    "blocks",
    metadata,
    Column("user_id", BigInteger, primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)
inbox = Table(
    "inbox",
    metadata,
    _id(),  # the order of arrival: after a quiet week Telegram goes on from a random update_id
    Column("update_id", BigInteger, nullable=False, unique=True),
    Column("platform", Text, nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("thread_id", BigInteger, nullable=False),
    Column("user_id", BigInteger),
    Column("payload", CleanText),
    Column("state", Text, nullable=False),  # new, answered, done or failed; the last two hold no text
    Column("reply", CleanText),
    Column("reply_id", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("error", CleanText),
    Column("received_at", UtcTime, nullable=False),
)


def add_unless_there(conn: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False, and nothing happens, if a unique constraint has one already."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return conn.execute(statement).first() is not None


def put(conn: Connection, table: Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert a row, or give the one with these unique `keys` new `values`."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**keys, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=dict(values)))
