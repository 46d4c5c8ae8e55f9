"""The frozen data of a run: three files of JSON lines and a manifest with their hashes, its row ids and counts.

Always: a snapshot is there whole or not at all, readable by its owner alone, and read only if every file is as it was
written. Its texts can be erased for good while the manifest stays: what it was made of is then still known.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.atomic_folder import sha256, writing
from model.conversation import Message
from model.errors import CheckpointError
from training.curation.curation import Curated
from training.errors import DataError
from training.examples import Example, Preference

FORMAT, VERSION = "tertulia-data", 1
MANIFEST = "manifest.json"
TRAIN, HELD_OUT, PREFERENCES = "train.jsonl", "held_out.jsonl", "preferences.jsonl"
_FILES = (TRAIN, HELD_OUT, PREFERENCES)
_AGAIN = "collect again into another folder"


@dataclass(frozen=True)
class Snapshot:
    """What a run trains on. `data_hash` depends on the examples alone, `facts` is what the writer noted."""

    folder: Path
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    data_hash: str
    row_ids: tuple[int, ...]
    counts: Mapping[str, int]
    facts: Mapping[str, Any]


def write_snapshot(curated: Curated, folder: Path, **facts: Any) -> Snapshot:
    """Freeze in a new folder, whole or not at all. Raises DataError if it exists or cannot be written."""
    contents = {
        TRAIN: _lines(map(_example_value, curated.train)),
        HELD_OUT: _lines(map(_example_value, curated.held_out)),
        PREFERENCES: _lines(map(_preference_value, curated.preferences)),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    items: list[Example | Preference] = [*curated.train, *curated.held_out, *curated.preferences]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "data_hash": _data_hash(hashes),
        "files": hashes,
        "row_ids": sorted({row for item in items for row in item.row_ids}),
        "counts": dict(curated.counts),
        "facts": facts,
    }
    contents[MANIFEST] = (json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
    try:
        with writing(folder, sum(map(len, contents.values()))) as aside:
            aside.chmod(0o700)
            for name, data in contents.items():
                (aside / name).write_bytes(data)
                (aside / name).chmod(0o600)
    except CheckpointError as error:
        raise DataError(str(error)) from error
    return read_snapshot(folder)


def read_snapshot(folder: Path) -> Snapshot:
    """Read what was frozen. Raises DataError naming a file that is missing or altered."""
    manifest = _manifest(folder)
    for name in _FILES:
        path = folder / name
        if not path.is_file():
            gone = manifest.get("erased", False)
            raise DataError(f"{path} {'was erased after its run' if gone else 'is missing'}: {_AGAIN}")
        if sha256(path) != manifest["files"].get(name):
            raise DataError(f"{path} was altered: its sha256 is not the manifest's; {_AGAIN}")
    if _data_hash(manifest["files"]) != manifest["data_hash"]:
        raise DataError(f"{folder / MANIFEST} was altered: data_hash is not that of its files; {_AGAIN}")
    try:
        return Snapshot(
            folder,
            tuple(map(_example, _values(folder / TRAIN))),
            tuple(map(_example, _values(folder / HELD_OUT))),
            tuple(map(_preference, _values(folder / PREFERENCES))),
            manifest["data_hash"],
            tuple(manifest["row_ids"]),
            manifest["counts"],
            manifest["facts"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is of another tertulia ({error}): {_AGAIN}") from error


def erase_text(folder: Path) -> None:
    """Delete the texts of a snapshot for good; its manifest (hashes, row ids, counts) stays and says so."""
    manifest = _manifest(folder)
    path, aside = folder / MANIFEST, folder / f".{MANIFEST}"
    aside.write_text(json.dumps({**manifest, "erased": True}, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    aside.replace(path)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def is_erased(folder: Path) -> bool:
    """Whether the texts of the snapshot that was here were deleted, or are about to be; a folder without its manifest,
    which came with it, is one that is being deleted."""
    try:
        return bool(_manifest(folder).get("erased", False))
    except DataError:
        return not (folder / MANIFEST).is_file()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): {_AGAIN}") from error
    except ValueError as error:
        raise DataError(f"{path} was altered: it is not JSON; {_AGAIN}") from error
    needed = {"data_hash", "files", "row_ids", "counts", "facts"}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not needed <= set(manifest):
        raise DataError(f"{path} is no manifest of {FORMAT}: give the folder of a snapshot")
    if manifest.get("version") != VERSION:
        raise DataError(f"{path}: version is {manifest.get('version')!r}, this program reads {VERSION}: {_AGAIN}")
    return manifest


def _data_hash(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(hashes[name] for name in _FILES).encode()).hexdigest()


def _lines(values: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n" for value in values).encode()


def _values(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])


def _example_value(example: Example) -> dict[str, Any]:
    said: dict[str, Any] = {"document": example.document}
    if example.document is None:
        said = {"messages": _message_values(example.messages), "trained": example.trained}
    return {**said, "user": example.user, "row_ids": example.row_ids, "source": example.source}


def _example(value: dict[str, Any]) -> Example:
    return Example(
        _messages(value.get("messages", [])),
        tuple(value.get("trained", [])),
        value["user"],
        tuple(value["row_ids"]),
        value["source"],
        value.get("document"),
    )


def _preference_value(pair: Preference) -> dict[str, Any]:
    return {**vars(pair), "history": _message_values(pair.history)}


def _preference(value: dict[str, Any]) -> Preference:
    return Preference(**{**value, "history": _messages(value["history"]), "row_ids": tuple(value["row_ids"])})


def _message_values(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _messages(values: Iterable[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(value["role"], value["content"]) for value in values)
