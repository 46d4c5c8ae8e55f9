"""What of the log may be trained on: the dialogues of people who consent now, with what was thought of the replies.

Always: a reply comes with the message that it answers, and only if both who asked and who answered consent (in an
imported chat a person may have answered). A conversation of several people is taken apart, each with their own turns
alone, so that nothing of one person stands in another's dialogue. A correction counts only if the person who was
answered wrote it: in a group nobody teaches with another's words, and the message's row says all there is to forget.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from training import consent
from training.database import Database
from training.records import Chat
from training.schema import chats, conversations, corrections, messages, ratings

_PAGE = 100


@dataclass(frozen=True)
class ConsentedReply:
    """A reply: `live`, or superseded by another; the sum of its thumbs; a better answer of who had asked."""

    id: int
    text: str
    live: bool
    rating: int = 0
    correction: str | None = None


@dataclass(frozen=True)
class ConsentedTurn:
    """A message and the replies to it, in the order they were given; perhaps none."""

    id: int
    text: str
    replies: tuple[ConsentedReply, ...]


@dataclass(frozen=True)
class ConsentedDialogue:
    """One person's turns of one conversation. `system` is the chat's text today: no older one is kept."""

    chat: Chat
    user_id: int
    system: str
    turns: tuple[ConsentedTurn, ...]
    system_id: int | None = None  # the message that the system text is, in an imported dialogue


def dialogues(database: Database) -> Iterator[ConsentedDialogue]:
    """All of them, oldest conversation first; read in pieces, so that a training run holds up nobody."""
    last = 0
    while True:
        query = select(conversations.c.id).where(conversations.c.id > last).order_by(conversations.c.id).limit(_PAGE)

        def page(conn: Connection, query: Any = query) -> tuple[int | None, list[ConsentedDialogue]]:
            numbers = conn.execute(query).scalars().all()
            found = [dialogue for number in numbers for dialogue in _conversation(conn, number)]
            return (numbers[-1] if numbers else None), found

        reached, found = database.read(page)
        if reached is None:
            return
        yield from found
        last = reached


def _conversation(conn: Connection, number: int) -> Iterator[ConsentedDialogue]:
    spoken = (
        select(messages)
        .where(messages.c.conversation_id == number, messages.c.text.is_not(None))
        .where(messages.c.state.in_(("live", "superseded")), ~consent.without(messages.c.user_id))
        .order_by(messages.c.id)
    )
    rows = conn.execute(spoken).all()
    asked = {row.id: row for row in rows if row.role == "user"}
    if not asked:
        return
    head = conn.execute(
        select(chats).join(conversations, conversations.c.chat == chats.c.id).where(conversations.c.id == number)
    ).one()
    told = next((row for row in rows if row.role == "system"), None)
    thumbs, better = _thumbs(conn, number), _corrections(conn, number)
    answers: dict[int, list[ConsentedReply]] = {}
    for row in rows:
        if row.role == "assistant" and row.reply_to in asked:
            correction = better.get((row.id, asked[row.reply_to].user_id))
            reply = ConsentedReply(row.id, row.text, row.state == "live", thumbs.get(row.id, 0), correction)
            answers.setdefault(row.reply_to, []).append(reply)
    people: dict[int, list[ConsentedTurn]] = {}
    for row in asked.values():
        turn = ConsentedTurn(row.id, row.text, tuple(answers.get(row.id, ())))
        people.setdefault(row.user_id, []).append(turn)
    for user_id, turns in people.items():
        system, system_id = _system(head, told, user_id)
        chat = Chat(head.platform, head.chat_id, head.thread_id)
        yield ConsentedDialogue(chat, user_id, system, tuple(turns), system_id)


def _system(head: Row[Any], told: Row[Any] | None, user_id: int) -> tuple[str, int | None]:
    """The system text that a person's turns stood under, unless somebody else wrote it, and its message."""
    if told is not None and told.user_id in (user_id, 0):
        return told.text, told.id
    return (head.system if head.system_by in (None, user_id) else ""), None


def _thumbs(conn: Connection, number: int) -> dict[int, int]:
    """Of each message that has them: the sum of the thumbs of people who consent."""
    query = (
        select(ratings.c.message_id, func.sum(ratings.c.value))
        .join(messages, messages.c.id == ratings.c.message_id)
        .where(messages.c.conversation_id == number, ~consent.without(ratings.c.user_id))
        .group_by(ratings.c.message_id)
    )
    return {message_id: int(value) for message_id, value in conn.execute(query)}


def _corrections(conn: Connection, number: int) -> dict[tuple[int, int], str]:
    """(message, who wrote it) -> a better answer."""
    query = (
        select(corrections)
        .join(messages, messages.c.id == corrections.c.message_id)
        .where(and_(messages.c.conversation_id == number, ~consent.without(corrections.c.user_id)))
    )
    return {(row.message_id, row.user_id): row.text for row in conn.execute(query)}
