"""Dialogues in files: one JSON object a line, {"messages": [{"role": ..., "content": ...}]}, or Telegram's export.

Always: which of the two a file is, its content says; nothing is stored of a file that is not understood whole.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from training import consent, turns
from training.errors import DialogueFileError
from training.records import Chat
from training.schema import conversations, messages, now

MAX_ID = 2**63 - 1
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class FileMessage:
    """A message of a file. `user_id` is who wrote it, of a bot's reply who was answered."""

    role: str
    text: str
    user_id: int
    at: datetime
    external_id: int | None = None


@dataclass(frozen=True)
class FileDialogue:
    """A conversation of a file; `chat_id` is the same whenever it is read."""

    chat_id: int
    messages: tuple[FileMessage, ...]


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    dialogues: int = 0
    messages: int = 0
    known: int = 0  # messages that were there before
    withdrawn: int = 0  # messages of people who have withdrawn their consent: left out


def parse_json_file(path: Path) -> list[Any]:
    """The JSON values of a file: one, or one a line. Raises DialogueFileError naming the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DialogueFileError(f"{path} is not UTF-8 text: expected JSON lines or Telegram's result.json") from None
    try:
        return [json.loads(text)]
    except RecursionError:
        raise DialogueFileError(f"{path} is nested too deeply to be dialogues") from None
    except ValueError:
        pass
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except (ValueError, RecursionError):
                raise DialogueFileError(f"{path}, line {number} is not JSON: expected one dialogue a line") from None
    if not values:
        raise DialogueFileError(f"{path} is empty: expected JSON lines or Telegram's result.json")
    return values


def read_dialogues(path: Path, values: list[Any]) -> Iterator[FileDialogue]:
    """The dialogues of JSON lines; names and times are optional. Raises DialogueFileError naming the line."""
    for number, value in enumerate(values, 1):
        where = f"{path}, dialogue {number}"
        items = value.get("messages") if isinstance(value, dict) else None
        if not isinstance(items, list) or not items:
            raise DialogueFileError(f'{where}: expected {{"messages": [{{"role": "user", "content": "..."}}, ...]}}')
        read: list[FileMessage] = []
        for n, item in enumerate(items, 1):
            read.append(_message(f"{where}, message {n}", item, answered=read[-1].user_id if read else 0))
        spoken = json.dumps([(message.role, message.text) for message in read]).encode()
        # Negative, as no user's number is: a chat with a person's number counts as that person's.
        chat_id = -(int.from_bytes(hashlib.sha256(spoken).digest()[:6], "big") + 1)
        yield FileDialogue(chat_id, tuple(read))


def store(conn: Connection, dialogues: list[FileDialogue]) -> Imported:
    """Put dialogues into the log as closed conversations, by whose importing their writers' consent is declared.

    What was imported before stays as it is; who has withdrawn through the bot stays left out.
    """
    done = Imported()
    for dialogue in dialogues:
        chat = Chat("import", dialogue.chat_id)
        chat_key = turns.hold(conn, chat)
        there = _known(conn, chat_key)
        fresh = [message for message in dialogue.messages if message.external_id not in there]
        words = {message.user_id: consent.of(conn, message.user_id) for message in fresh}
        allowed = list(_allowed(fresh, {user_id for user_id, word in words.items() if word is False}))
        done = replace(
            done,
            known=done.known + len(dialogue.messages) - len(fresh),
            withdrawn=done.withdrawn + len(fresh) - len(allowed),
        )
        if not allowed:
            continue
        for user_id, word in words.items():
            if word is None:
                consent.record(conn, user_id, True, source="import")
        _store_one(conn, chat_key, allowed)
        done = replace(done, dialogues=done.dialogues + 1, messages=done.messages + len(allowed))
    return done


def _store_one(conn: Connection, chat_key: int, spoken: list[FileMessage]) -> None:
    times = {"opened_at": spoken[0].at, "closed_at": max(spoken[-1].at, spoken[0].at)}
    statement = insert(conversations).values(chat=chat_key, **times).returning(conversations.c.id)
    conversation = conn.execute(statement).scalar_one()
    asked = None
    for message in spoken:
        more = {"external_id": message.external_id, "reply_to": asked if message.role == "assistant" else None}
        row = turns.add_message(conn, conversation, message.role, message.user_id, message.text, message.at, **more)
        if message.role == "user":
            asked = row


def _allowed(spoken: list[FileMessage], withdrawn: set[int]) -> Iterator[FileMessage]:
    """Without messages of people who have withdrawn, and without the replies to those."""
    asked = True
    for message in spoken:
        kept = message.user_id not in withdrawn
        if message.role == "user":
            asked = kept
        if kept and (asked or message.role != "assistant"):
            yield message


def _known(conn: Connection, chat_key: int) -> set[int | None]:
    query = (
        select(messages.c.external_id)
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(conversations.c.chat == chat_key)
    )
    return set(conn.execute(query).scalars())


def _message(where: str, item: Any, answered: int) -> FileMessage:
    """One message; a reply without a number is for the one `answered`."""
    if not isinstance(item, dict):
        raise DialogueFileError(f"{where}: expected an object with role and content")
    role, content = item.get("role"), item.get("content")
    user_id = item.get("user_id", answered if role == "assistant" else 0)
    if role not in _ROLES:
        raise DialogueFileError(f"{where}: role is {str(role)[:20]!r}, expected system, user or assistant")
    if not isinstance(content, str):
        raise DialogueFileError(f"{where}: content is missing or no text")
    if not isinstance(user_id, int) or isinstance(user_id, bool) or not -MAX_ID <= user_id <= MAX_ID:
        raise DialogueFileError(f"{where}: user_id is no whole number of 63 bits")
    try:
        at = datetime.fromisoformat(item["created_at"]).astimezone() if "created_at" in item else now()
    except (TypeError, ValueError, OverflowError):
        raise DialogueFileError(f"{where}: created_at is no time such as 2026-01-31T18:00:00+00:00") from None
    return FileMessage(role, content, user_id, at)
