"""Dialogues in JSON lines: read whole or not at all, stored once, never against a withdrawal."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.training.conftest import FACTS
from training import browsing
from training.dialogue_files import FileDialogue, Imported, parse_json_file, read_dialogues, store
from training.dialogues import Chat, DialogueLog
from training.errors import DialogueFileError
from training.schema import conversations, now

HELLO = {"messages": [{"role": "user", "content": "hola"}, {"role": "assistant", "content": "buenas"}]}


def read(path: Path, *values: Any) -> list[FileDialogue]:
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n", encoding="utf-8")
    return list(read_dialogues(path, parse_json_file(path)))


def put(log: DialogueLog, dialogues: list[FileDialogue]) -> Imported:
    return log.database.write(lambda conn: store(conn, dialogues))


def exported(log: DialogueLog, consented_only: bool = True) -> list[dict[str, Any]]:
    return list(browsing.every(log.database, consented_only))


def test_dialogues_are_imported_once(log: DialogueLog, tmp_path: Path) -> None:
    farewell = {"messages": [{"role": "system", "content": "sé breve"}, {"role": "user", "content": "adiós"}]}
    dialogues = read(tmp_path / "a.jsonl", HELLO, farewell)
    assert put(log, dialogues) == Imported(dialogues=2, messages=4)
    assert put(log, dialogues) == Imported(known=4)
    found = exported(log)
    assert [[(m["role"], m["content"]) for m in one["messages"]] for one in found] == [
        [("user", "hola"), ("assistant", "buenas")],
        [("system", "sé breve"), ("user", "adiós")],
    ]
    assert all(one["platform"] == "import" and one["closed_at"] for one in found)


def test_what_is_exported_can_be_imported(log: DialogueLog, tmp_path: Path) -> None:
    log.set_consent(5, True)
    _, reply = log.append_turn(Chat("telegram", -9, 2), 5, "hola\nqué tal", "bien ñ 😀", FACTS)
    log.rate(Chat("telegram", -9, 2), reply, 5, 1)
    log.correct(Chat("telegram", -9, 2), reply, 5, "muy bien")
    log.correct(Chat("telegram", -9, 2), reply, 6, "sin permiso")
    (one,) = exported(log)
    assert (one["messages"][1]["rating"], one["messages"][1]["corrections"]) == (1, ["muy bien"])
    assert (one["messages"][1]["model"], one["messages"][1]["adapter"]) == ("embedded", None)
    (dialogue,) = read(tmp_path / "a.jsonl", one)
    assert [(m.role, m.text, m.user_id) for m in dialogue.messages] == [
        ("user", "hola\nqué tal", 5),
        ("assistant", "bien ñ 😀", 5),
    ]
    assert dialogue.messages[0].at == datetime.fromisoformat(one["messages"][0]["created_at"])
    assert put(log, [dialogue]) == Imported(dialogues=1, messages=2)


def test_only_what_people_consent_to_is_exported_unless_all_is_asked_for(log: DialogueLog) -> None:
    group = Chat("telegram", -9)
    log.set_consent(5, True)
    for number in range(120):  # more than a page
        log.append_turn(group, 5, f"sí {number}", "re sí", FACTS)
        log.append_turn(group, 6, f"no {number}", "re no", FACTS)
        if number < 119:
            log.database.write(lambda conn: conn.execute(update(conversations).values(closed_at=now())))
    assert [[m["content"] for m in one["messages"]] for one in exported(log)] == [
        [f"sí {n}", "re sí"] for n in range(120)
    ]
    everything = exported(log, consented_only=False)
    assert len(everything) == 120
    assert [m["content"] for m in everything[-1]["messages"]] == ["sí 119", "re sí", "no 119", "re no"]


def test_importing_declares_consent_but_never_against_a_withdrawal(log: DialogueLog, tmp_path: Path) -> None:
    log.set_consent(5, False)
    spoken = [
        {"role": "user", "content": "de cinco", "user_id": 5},
        {"role": "assistant", "content": "a cinco", "user_id": 9},
        {"role": "user", "content": "de seis", "user_id": 6},
        {"role": "assistant", "content": "a seis", "user_id": 9},
    ]
    assert put(log, read(tmp_path / "a.jsonl", {"messages": spoken})) == Imported(1, 2, 0, 2)
    assert (log.consent(5), log.consent(6)) == (False, True)
    assert [m["content"] for m in exported(log)[0]["messages"]] == ["de seis", "a seis"]
    log.set_consent(6, False)
    assert exported(log) == [], "the answer by another person goes with the question"
    assert log.forget(6) > 0
    assert log.stats()["messages"] == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", r'dialogue 2: expected \{"messages"'),
        ('{"messages": []}', "dialogue 2: expected"),
        ('{"messages": "hola"}', "dialogue 2: expected"),
        ('{"messages": ["hola"]}', "message 1: expected an object"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "role is 'bot', expected system, user or assistant"),
        ('{"messages": [{"role": "user"}]}', "content is missing"),
        ('{"messages": [{"role": "user", "content": 5}]}', "content is missing or no text"),
        ('{"messages": [{"role": "user", "content": "a", "user_id": "x"}]}', "user_id is no whole number"),
        ('{"messages": [{"role": "user", "content": "a", "user_id": 1e3}]}', "user_id is no whole number"),
        ('{"messages": [{"role": "user", "content": "a", "user_id": true}]}', "user_id is no whole number"),
        ('{"messages": [{"role": "user", "content": "a", "user_id": 9223372036854775808}]}', "of 63 bits"),
        ('{"messages": [{"role": "user", "content": "a", "created_at": "ayer"}]}', "created_at is no time"),
        ('{"messages": [{"role": "user", "content": "a", "created_at": 5}]}', "created_at is no time"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_with_the_line(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(HELLO) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DialogueFileError, match=rf"a\.jsonl.*{words}"):
        list(read_dialogues(path, parse_json_file(path)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DialogueFileError, match=words):
        parse_json_file(path)


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(HELLO).encode() + b"\r\n\r\n" + json.dumps(HELLO).encode())
    assert len(list(read_dialogues(path, parse_json_file(path)))) == 2


def test_times_are_optional_and_kept(log: DialogueLog, tmp_path: Path) -> None:
    old = {"role": "user", "content": "vieja", "created_at": "2020-05-01T12:00:00+02:00"}
    put(log, read(tmp_path / "a.jsonl", {"messages": [old]}, HELLO))
    first, second = exported(log)
    assert first["messages"][0]["created_at"] == first["opened_at"] == "2020-05-01T10:00:00+00:00"
    assert datetime.fromisoformat(second["opened_at"]) > datetime(2026, 1, 1, tzinfo=UTC)
