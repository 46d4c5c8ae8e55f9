"""JSON lines of messages, as `tertulia dialogues export` writes them, or of prompt and completion.

Optional: "user" (who is asked; in an export each message's "user_id"), and of a reply "rating" and "corrections".
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.curation.files import FileDialogue, FileTurn, lines, person
from training.errors import DataError
from training.examples import user_key
from training.schema import clean

_ROLES = ("system", "user", "assistant")
_WANTED = '{"messages": [{"role": "user", "content": "..."}, ...]} or {"prompt": "...", "completion": "..."}'


def read_json(path: Path) -> Iterator[FileDialogue]:
    """One example a line. Raises DataError naming the line."""
    for number, text in lines(path):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(text)
        except RecursionError:
            raise DataError(f"{where} is nested too deeply to be an example: expected {_WANTED}") from None
        except ValueError as error:
            raise DataError(f"{where} is not JSON ({str(error)[:80]}): expected {_WANTED}") from None
        yield _dialogue(where, value, path, number)


def _dialogue(where: str, value: Any, path: Path, number: int) -> FileDialogue:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected {_WANTED}")
    user = value.get("user")
    if user is not None and not (isinstance(user, str | int) and not isinstance(user, bool)):
        raise DataError(f"{where}: user is neither text nor a whole number")
    key = person(path, number) if user in (None, "") else user_key("file", clean(str(user)))
    if "messages" not in value:
        turn = FileTurn(_text(where, value, "prompt"), _text(where, value, "completion"), key)
        return FileDialogue(path.name, _text(where, value, "system", ""), (turn,))
    items = value["messages"]
    if not isinstance(items, list) or not items:
        raise DataError(f"{where}: messages is no list, or empty: expected {_WANTED}")
    platform = str(value.get("platform", "file"))
    system, turns = _turns(where, items, key, platform)
    return FileDialogue(path.name, system, tuple(turns))


def _turns(where: str, items: list[Any], key: str, platform: str) -> tuple[str, list[FileTurn]]:
    """The system text, and turns: messages without a reply join the next one's, or are left out at the end."""
    system, asker = "", ""
    asked: list[str] = []
    turns: list[FileTurn] = []
    for n, item in enumerate(items, 1):
        here = f"{where}, message {n}"
        if not isinstance(item, dict):
            raise DataError(f"{here}: expected an object with role and content")
        role, text = item.get("role"), _text(here, item, "content")
        if role not in _ROLES:
            raise DataError(f"{here}: role is {str(role)[:20]!r}, expected {', '.join(_ROLES)}")
        if role == "system":
            if n > 1:
                raise DataError(f"{here}: a system message is the first one or none")
            system = text
        elif role == "user":
            user_id = item.get("user_id")
            named = user_key(platform, user_id) if isinstance(user_id, int) and user_id else key
            if asked and named != asker:
                asked = []  # somebody else spoke in between and was not answered
            asker = named
            asked.append(text)
        elif asked:
            turns.append(FileTurn("\n".join(asked), text, asker, *_opinion(here, item)))
            asked = []
        elif turns:
            raise DataError(f"{here}: a reply after a reply: join them, or put the user's message between")
    return system, turns


def _opinion(where: str, item: dict[str, Any]) -> tuple[int, str | None]:
    rating, corrections = item.get("rating", 0), item.get("corrections", [])
    if not isinstance(rating, int):
        raise DataError(f"{where}: rating is no whole number")
    if not isinstance(corrections, list) or not all(isinstance(text, str) for text in corrections):
        raise DataError(f"{where}: corrections is no list of texts")
    return rating, clean(corrections[-1]) if corrections else None


def _text(where: str, value: dict[str, Any], name: str, default: str | None = None) -> str:
    text = value.get(name, default)
    if not isinstance(text, str):
        raise DataError(f"{where}: {name} is missing or no text: expected {_WANTED}")
    return clean(text)
