"""What the log and files give: corrections in place, dislikes without loss, pairs from what people said of replies."""

import json
from functools import partial
from pathlib import Path

import pytest

from model.conversation import Message
from tests.training.conftest import CHAT, FACTS, GROUP
from training.curation.sources import read_file, read_log
from training.dialogue_files import FileDialogue, FileMessage, store
from training.dialogues import DialogueLog, sqlite_url
from training.errors import DataError
from training.examples import Preference, user_key
from training.schema import now


@pytest.fixture
def log(tmp_path: Path) -> DialogueLog:
    with DialogueLog(sqlite_url(tmp_path / "log.db")) as log:
        log.set_consent(5, True)
        yield log


def pairs(preferences: tuple[Preference, ...]) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in preferences]


def test_the_logs_dialogues_become_examples_with_their_rows(log: DialogueLog) -> None:
    log.set_system(CHAT, "sé breve")
    ids = [row for text in ("uno", "dos") for row in log.append_turn(CHAT, 5, text, f"re {text}", FACTS)]
    source = read_log(log, system="otro")
    (example,) = source.examples
    assert [(m.role, m.content) for m in example.messages] == [
        ("system", "sé breve"),
        ("user", "uno"),
        ("assistant", "re uno"),
        ("user", "dos"),
        ("assistant", "re dos"),
    ]
    assert example.trained == (False, False, True, False, True)
    assert (example.row_ids, example.user, example.source) == (tuple(ids), user_key("telegram", 5), "log")
    assert source.counts == {"log_dialogues": 1, "log_turns": 2, "corrected": 0, "thumbs_down": 0}


def test_a_chat_without_a_system_text_has_the_services(log: DialogueLog) -> None:
    log.append_turn(CHAT, 5, "uno", "re", FACTS)
    assert read_log(log, system="del servicio").examples[0].messages[0] == Message("system", "del servicio")
    assert read_log(log).examples[0].messages[0] == Message("user", "uno")


def test_a_correction_replaces_the_reply_and_a_thumb_down_alone_takes_its_loss(log: DialogueLog) -> None:
    _, bad = log.append_turn(CHAT, 5, "uno", "malo", FACTS)
    _, wrong = log.append_turn(CHAT, 5, "dos", "errado", FACTS)
    log.append_turn(CHAT, 5, "tres", "bueno", FACTS)
    log.rate(CHAT, bad, 5, -1)
    log.rate(CHAT, wrong, 5, -1)
    log.correct(CHAT, wrong, 5, "acertado")
    source = read_log(log)
    (example,) = source.examples
    assert [m.content for m in example.messages][1::2] == ["malo", "acertado", "bueno"]
    assert example.trained == (False, False, False, True, False, True)
    assert (source.counts["corrected"], source.counts["thumbs_down"]) == (1, 1)
    (pair,) = source.preferences
    assert (pair.chosen, pair.rejected) == ("acertado", "errado")
    assert [m.content for m in pair.history] == ["uno", "malo", "dos"]
    assert set(pair.row_ids) <= set(example.row_ids)
    assert wrong in pair.row_ids


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (-1, 1, [("B", "A")]),
        (1, -1, [("A", "B")]),
        (-1, 0, [("B", "A")]),  # disliked, replaced, and the new one was left standing
        (0, 1, [("B", "A")]),  # another one was asked for, and liked
        (0, 0, []),
        (1, 0, []),  # another was asked for all the same: that says nothing against it
        (0, -1, []),
        (1, 1, []),
        (-1, -1, []),
    ],
)
def test_thumbs_of_replaced_replies_make_pairs(
    log: DialogueLog, first: int, second: int, wanted: list[tuple[str, str]]
) -> None:
    _, a = log.append_turn(CHAT, 5, "hola", "A", FACTS)
    b = log.replace_reply(CHAT, "B", FACTS)
    for reply, value in ((a, first), (b, second)):
        if value:
            log.rate(CHAT, reply, 5, 1 if value > 0 else -1)
    source = read_log(log)
    assert pairs(source.preferences) == wanted
    assert all({a, b} <= set(pair.row_ids) for pair in source.preferences)
    assert [m.content for m in source.examples[0].messages] == ["hola", "B"]


def test_people_of_a_group_are_examples_of_their_own(log: DialogueLog) -> None:
    log.set_consent(6, True)
    for user_id in (5, 6, 5):
        log.append_turn(GROUP, user_id, f"soy {user_id}", "bien", FACTS)
    examples = read_log(log).examples
    assert {(e.user, e.num_turns) for e in examples} == {(user_key("telegram", 5), 2), (user_key("telegram", 6), 1)}


def test_imported_dialogues_without_names_are_a_persons_each(log: DialogueLog) -> None:
    """As one person's they would fall to one side of the split, and under one cap."""
    for chat_id in (-1, -2):
        spoken = (FileMessage("user", f"hola {chat_id}", 0, now()), FileMessage("assistant", "buenas", 0, now()))
        log.database.write(partial(store, dialogues=[FileDialogue(chat_id, spoken)]))
    assert len({example.user for example in read_log(log).examples}) == 2


def test_why_a_log_gives_nothing_is_said(tmp_path: Path) -> None:
    with DialogueLog(sqlite_url(tmp_path / "other.db")) as log:
        assert read_log(log).remark == "it holds no message"
        log.append_turn(CHAT, 5, "hola", "buenas", FACTS)
        assert "lets it be used in training" in read_log(log).remark


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "hola", "completion": "buenas"}\n',
        '\n  {"messages": [{"role": "user", "content": "hola"}, {"role": "assistant", "content": "buenas"}]}',
        "prompt,completion\nhola,buenas\n",
        "\ufeffcompletion;prompt\r\nbuenas;hola\r\n",
        "\n\nPrompt\tCompletion\nhola\tbuenas",
    ],
)
def test_the_format_is_known_by_the_content_not_by_the_name(tmp_path: Path, text: str) -> None:
    (example,) = read_file(write(tmp_path / "data.bin", text)).examples
    assert example.messages == (Message("user", "hola"), Message("assistant", "buenas"))


def test_a_text_with_end_markers_is_documents(tmp_path: Path) -> None:
    (one, two) = read_file(write(tmp_path / "a.jsonl", "Érase\nuna vez<|endoftext|>\nOtra<|endoftext|>\n")).examples
    assert (one.document, two.document) == ("Érase\nuna vez", "Otra")


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), ("\n \n", "is empty"), ("\nhola\n", "line 2: expected JSON")]
)
def test_a_file_of_no_format_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_file(write(tmp_path / "a.txt", text))


def test_a_file_of_an_export_counts_thumbs_and_corrections_and_knows_its_people(tmp_path: Path) -> None:
    spoken = [
        {"role": "user", "content": "uno", "user_id": 5},
        {"role": "assistant", "content": "malo", "user_id": 5, "rating": -1},
        {"role": "user", "content": "dos", "user_id": 6},
        {"role": "assistant", "content": "errado", "user_id": 6, "rating": -1, "corrections": ["a", "acertado"]},
    ]
    line = json.dumps({"platform": "telegram", "messages": spoken})
    source = read_file(write(tmp_path / "a.jsonl", line))
    assert [(e.user, e.messages[1].content, e.trained[1]) for e in source.examples] == [
        (user_key("telegram", 5), "malo", False),
        (user_key("telegram", 6), "acertado", True),
    ]
    assert pairs(source.preferences) == [("acertado", "errado")]
    assert (source.counts["corrected"], source.counts["thumbs_down"]) == (1, 1)
