"""Telegram Desktop's JSON export of a chat (its menu, "Export chat history", format JSON: result.json) as dialogues.

One participant's messages count as replies: the bot's in a chat with a bot, else whose number is given. Always: only
text that its sender wrote is taken; no media, no forwarded messages, no commands, no answers to nothing.
Source: https://core.telegram.org/import-export
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from training.dialogue_files import MAX_ID, FileDialogue, FileMessage
from training.errors import DialogueFileError

PAUSE = timedelta(hours=6)  # a longer one begins another conversation
_PRIVATE = ("bot_chat", "personal_chat", "saved_messages")


@dataclass(frozen=True)
class _Line:
    user_id: int
    name: str
    text: str
    at: datetime
    external_id: int


def is_export(value: Any) -> bool:
    """True if a JSON value is an export of a chat, or of an account."""
    if not isinstance(value, dict):
        return False
    items = value.get("messages")
    is_chat = isinstance(items, list) and "type" in value and "id" in value
    return is_chat or isinstance(value.get("chats"), dict)


def read_export(path: Path, value: dict[str, Any], assistant: int | None = None) -> list[FileDialogue]:
    """The dialogues of one exported chat. `assistant`: the number of the user whose messages are the replies.

    Raises DialogueFileError, which names the participants if there is a choice to make.
    """
    if "messages" not in value:
        raise DialogueFileError(f"{path} is an export of a whole account: export the one chat, from its own menu")
    chat_id = value["id"]
    if not isinstance(chat_id, int) or not 0 < chat_id <= MAX_ID:
        raise DialogueFileError(f"{path}: the chat's id is {str(chat_id)[:20]!r}, expected a positive number")
    is_bot = value["type"] == "bot_chat" and assistant in (None, chat_id)
    lines = [line for n, item in enumerate(value["messages"], 1) if (line := _line(f"{path}, message {n}", item))]
    if is_bot:
        assistant = chat_id
    if assistant is None or all(line.user_id != assistant for line in lines):
        counts = Counter((line.user_id, line.name) for line in lines)
        people = ", ".join(f"{user_id} ({name}: {count})" for (user_id, name), count in counts.most_common(5))
        raise DialogueFileError(
            f"{path}: whose messages are the replies? Give --assistant and one of these numbers: {people or 'none'}"
        )
    private = value["type"] in _PRIVATE
    return [
        FileDialogue(chat_id if private else -chat_id, turns)
        for part in _split(lines)
        if (turns := tuple(_turns(part, assistant, is_bot)))
    ]


def _turns(lines: Iterable[_Line], assistant: int, is_bot: bool) -> Iterator[FileMessage]:
    """Messages in a row by one person are one; what nobody answers, and answers to what was left out, are dropped."""
    blocks: list[_Line] = []
    for line in lines:
        if blocks and blocks[-1].user_id == line.user_id and not _is_command(line) and not _is_command(blocks[-1]):
            blocks[-1] = replace(blocks[-1], text=f"{blocks[-1].text}\n{line.text}")
        else:
            blocks.append(line)
    waiting: list[_Line] = []
    for block in blocks:
        if _is_command(block):
            waiting = []
        elif block.user_id != assistant:
            waiting.append(block)
        elif waiting:
            yield from (FileMessage("user", one.text, one.user_id, one.at, one.external_id) for one in waiting)
            writer = waiting[-1].user_id if is_bot else assistant
            yield FileMessage("assistant", block.text, writer, block.at, block.external_id)
            waiting = []


def _split(lines: list[_Line]) -> Iterator[list[_Line]]:
    part: list[_Line] = []
    for line in lines:
        if part and line.at - part[-1].at > PAUSE:
            yield part
            part = []
        part.append(line)
    if part:
        yield part


def _is_command(line: _Line) -> bool:
    return line.text.startswith("/")


def _line(where: str, item: Any) -> _Line | None:
    """A message that is plain text of its sender, else None. Raises DialogueFileError if it is no message at all."""
    if not isinstance(item, dict):
        raise DialogueFileError(f"{where}: expected an object")
    skipped = (
        "forwarded_from",
        "forwarded_from_id",
        "via_bot",
        "media_type",
        "photo",
        "file",
        "poll",
        "contact_information",
    )
    if item.get("type") != "message" or any(item.get(name) for name in skipped):
        return None
    text = _text(item.get("text") or item.get("text_entities")).strip()
    sender = str(item.get("from_id", ""))
    number = sender.removeprefix("user")
    if not text or not sender.startswith("user") or not number.isascii() or not number.isdigit():
        return None  # channels and anonymous admins are nobody in particular
    try:
        stamp = item.get("date_unixtime")
        at = datetime.fromtimestamp(int(stamp), UTC) if stamp else datetime.fromisoformat(item["date"]).astimezone(UTC)
        external_id = int(item["id"])
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise DialogueFileError(f"{where}: its id or date is not as Telegram Desktop writes it") from None
    user_id = int(number[:20])
    if user_id > MAX_ID or abs(external_id) > MAX_ID:
        raise DialogueFileError(f"{where}: a number in it is larger than any of Telegram's")
    return _Line(user_id, str(item.get("from") or "?")[:40], text, at, external_id)


def _text(value: Any) -> str:
    """The text of a message: a string, or strings and entities in turn."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "".join(
        part if isinstance(part, str) else str(part.get("text", "")) for part in value if isinstance(part, str | dict)
    )
