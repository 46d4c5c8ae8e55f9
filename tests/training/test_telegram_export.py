"""Telegram Desktop's export: whose words count, as what, and what is left out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from training import browsing
from training.dialogue_files import FileDialogue, Imported, parse_json_file, read_dialogues, store
from training.dialogues import DialogueLog
from training.errors import DialogueFileError
from training.telegram_export import is_export, read_export

ANA, LUIS, BOT = 77, 88, 7_000_000_001
START = 1_768_035_600  # 2026-01-10 09:00 UTC
PATH = Path("result.json")


def message(number: int, user: int, text: Any, minute: int | None = None, **more: Any) -> dict[str, Any]:
    """As Telegram Desktop 5 writes one."""
    at = START + 60 * (number if minute is None else minute)
    name = {ANA: "Ana", LUIS: "Luis", BOT: "Tertulia"}.get(user, "?")
    return {
        "id": number,
        "type": "message",
        "date": datetime.fromtimestamp(at).isoformat(),
        "date_unixtime": str(at),
        "from": name,
        "from_id": f"user{user}",
        "text": text,
        "text_entities": [{"type": "plain", "text": text}] if isinstance(text, str) and text else [],
        **more,
    }


def chat(*messages: dict[str, Any], kind: str = "bot_chat", chat_id: int = BOT) -> dict[str, Any]:
    return {"name": "Tertulia", "type": kind, "id": chat_id, "messages": list(messages)}


def spoken(dialogues: list[FileDialogue]) -> list[list[tuple[str, str]]]:
    return [[(one.role, one.text) for one in dialogue.messages] for dialogue in dialogues]


TALK = chat(
    {"id": 1, "type": "service", "date": "2026-01-10T09:00:00", "date_unixtime": str(START), "action": "x", "text": ""},
    message(2, ANA, [{"type": "bot_command", "text": "/start"}]),
    message(3, BOT, "Hola, soy Tertulia."),
    message(4, ANA, "buenas"),
    message(5, ANA, ["mira ", {"type": "link", "text": "https://ejemplo.es"}, " y dime"]),
    message(6, BOT, "Muy bonito."),
    message(7, BOT, "¿Algo más?"),
    message(8, ANA, "no"),
)


def test_a_chat_with_a_bot_becomes_turns() -> None:
    dialogues = read_export(PATH, TALK)
    assert spoken(dialogues) == [
        [("user", "buenas\nmira https://ejemplo.es y dime"), ("assistant", "Muy bonito.\n¿Algo más?")]
    ]
    asked, answered = dialogues[0].messages
    assert (asked.user_id, asked.external_id, asked.at) == (ANA, 4, datetime.fromtimestamp(START + 240, UTC))
    assert answered.user_id == ANA, "a bot's words belong to whom they were for"
    assert dialogues[0].chat_id == BOT


def test_a_long_pause_begins_another_conversation() -> None:
    dialogues = read_export(
        PATH,
        chat(
            message(1, ANA, "hola"),
            message(2, BOT, "buenas"),
            message(3, ANA, "al día siguiente", 1440),
            message(4, BOT, "otra vez", 1441),
        ),
    )
    assert spoken(dialogues) == [
        [("user", "hola"), ("assistant", "buenas")],
        [("user", "al día siguiente"), ("assistant", "otra vez")],
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"forwarded_from": "Otro"},
        {"via_bot": "@gif"},
        {"photo": "photos/1.jpg"},
        {"media_type": "sticker", "file": "x.webp"},
        {"media_type": "voice_message"},
        {"type": "service"},
        {"from_id": "channel5"},
        {"from_id": None},
        {"text": "", "text_entities": []},
        {"text": 5},
        {"text": None, "text_entities": None},
    ],
)
def test_what_is_not_its_senders_text_is_left_out(more: dict[str, Any]) -> None:
    value = chat(message(1, ANA, "hola"), {**message(2, ANA, "esto no"), **more}, message(3, BOT, "a"))
    assert spoken(read_export(PATH, value)) == [[("user", "hola"), ("assistant", "a")]]


def test_the_text_is_found_where_only_entities_carry_it() -> None:
    bare = message(1, ANA, "hola")
    del bare["text"]
    assert spoken(read_export(PATH, chat(bare, message(2, BOT, "a")))) == [[("user", "hola"), ("assistant", "a")]]


def test_between_people_the_operator_says_whose_words_are_the_replies() -> None:
    value = chat(
        message(1, LUIS, "¿cómo se hace?"),
        message(2, ANA, "así"),
        message(3, LUIS, "gracias"),
        kind="personal_chat",
        chat_id=LUIS,
    )
    with pytest.raises(DialogueFileError, match=r"--assistant.*88 \(Luis: 2\), 77 \(Ana: 1\)"):
        read_export(PATH, value)
    with pytest.raises(DialogueFileError, match=r"--assistant"):
        read_export(PATH, value, assistant=5)
    (dialogue,) = read_export(PATH, value, assistant=ANA)
    assert [(m.role, m.user_id) for m in dialogue.messages] == [("user", LUIS), ("assistant", ANA)]
    assert dialogue.chat_id == LUIS


def test_in_a_group_several_may_ask_before_an_answer() -> None:
    value = chat(
        message(1, ANA, "hola"),
        message(2, LUIS, "yo también"),
        message(3, BOT, "buenas a los dos"),
        message(4, LUIS, "/ayuda"),
        message(5, BOT, "Esto puedo hacer."),
        kind="private_supergroup",
        chat_id=1234,
    )
    (dialogue,) = read_export(PATH, value, assistant=BOT)
    assert spoken([dialogue]) == [[("user", "hola"), ("user", "yo también"), ("assistant", "buenas a los dos")]]
    assert dialogue.chat_id == -1234, "a group's number may be a person's too"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"chats": {"list": []}}, "whole account: export the one chat"),
        (chat(chat_id=0), "the chat's id is '0'"),
        (chat(chat_id="x"), "the chat's id is 'x'"),  # type: ignore[arg-type]
        (chat("hola"), "message 1: expected an object"),  # type: ignore[arg-type]
        (chat(message(1, ANA, "a", date_unixtime="ayer")), "message 1: its id or date"),
        (chat(message(1, ANA, "a", date_unixtime="9" * 30)), "message 1: its id or date"),
        (chat(message(1, ANA, "a", id="x")), "message 1: its id or date"),
        (chat(message(1, ANA, "a", date_unixtime=None, date="ayer")), "message 1: its id or date"),
        (chat(message(1, 2**63, "a")), "message 1: a number in it is larger"),
        (chat(message(1, ANA, "a", id=2**63)), "message 1: a number in it is larger"),
        (chat(), r"--assistant .*none"),
    ],
)
def test_what_is_no_export_of_a_chat_is_refused(value: dict[str, Any], words: str) -> None:
    with pytest.raises(DialogueFileError, match=rf"result\.json.*{words}"):
        read_export(PATH, value)


def test_the_content_says_which_kind_a_file_is(tmp_path: Path) -> None:
    """Both have "messages"; the name of the file means nothing."""
    path = tmp_path / "dialogues.jsonl"
    path.write_text(json.dumps(TALK, indent=1), encoding="utf-8")
    (value,) = parse_json_file(path)
    assert is_export(value)
    others: list[Any] = [{"messages": [{"role": "user", "content": "a"}]}, [], "x", {"conversation": 1, "messages": []}]
    for other in others:
        assert not is_export(other)
    with pytest.raises(DialogueFileError, match="message 1: role is"):
        list(read_dialogues(path, [value]))


def test_a_newer_export_of_the_same_chat_adds_what_is_new(log: DialogueLog) -> None:
    def put(value: dict[str, Any]) -> Imported:
        dialogues = read_export(PATH, value)
        return log.database.write(lambda conn: store(conn, dialogues))

    assert put(TALK) == Imported(dialogues=1, messages=2)
    assert put(TALK) == Imported(known=2)
    later = chat(
        *TALK["messages"], message(9, BOT, "Hasta luego."), message(10, ANA, "adiós"), message(11, BOT, "Adiós.")
    )
    assert put(later) == Imported(dialogues=1, messages=4, known=2)
    found = [[m["content"] for m in one["messages"]] for one in browsing.every(log.database, True)]
    assert found == [
        ["buenas\nmira https://ejemplo.es y dime", "Muy bonito.\n¿Algo más?"],
        ["no", "Hasta luego.", "adiós", "Adiós."],
    ]
    assert log.forget(ANA) > 0
    assert log.stats()["messages"] == 0
