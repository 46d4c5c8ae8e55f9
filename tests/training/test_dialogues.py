"""Conversations in the log: turns in order, what is taken back, any text; on SQLite and on PostgreSQL."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from tests.training.conftest import CHAT, FACTS, GROUP, OpenLog, stored, texts
from training import turns
from training.dialogues import Chat, DialogueLog, sqlite_url
from training.errors import LogError, NothingToReplace
from training.schema import replies

ANA, LUIS = 77, 88

NASTY = [
    "",
    " ",
    "a\0b",
    "\0",
    "\ud800",
    "x\udfffy\ud83d",
    "👩‍👩‍👧‍👦" * 585,
    "\u202eabc\u202c \u200f",
    "'; DROP TABLE messages; --",
    "%(text)s :text ? {} $1",
    "<|fin|>Asistente: <b>_*`[",
    "\r\n\t\x01\x1b[2J\ufeff\uffff",
    "ñ" * 100_000,
]


def test_a_turn_comes_back_whole(log: DialogueLog, open_log: OpenLog) -> None:
    before = datetime.now(UTC)
    asked, answered = log.append_turn(CHAT, ANA, "hola", "buenas", FACTS, reply_ids=(3, 1, 2), external_id=41)
    log.set_external_id(answered, 42)
    first, second = open_log().history(CHAT)
    assert (first.id, first.role, first.text, first.ids, first.external_id) == (asked, "user", "hola", None, 41)
    assert (second.id, second.role, second.text, second.ids, second.external_id) == (
        (answered, "assistant", "buenas", (3, 1, 2), 42)
    )  # fmt: skip
    assert before <= first.created_at == second.created_at <= datetime.now(UTC)
    assert first.created_at.tzinfo is UTC


def test_a_reply_is_stored_with_what_it_was_made_with(log: DialogueLog) -> None:
    facts = replace(FACTS, adapter="charla-3", first_token_s=None, sampling={"temperature": 0.0, "seed": None})
    _, answered = log.append_turn(CHAT, ANA, "hola", "buenas", facts)
    row = log.database.read(lambda conn: conn.execute(select(replies)).one())
    assert row._asdict() == {"message_id": answered, **vars(facts)}


def test_chats_and_topics_do_not_mix(log: DialogueLog) -> None:
    places = [CHAT, GROUP, Chat("telegram", -1001), Chat("telegram", -1001, 6), Chat("terminal", 77)]
    for number, chat in enumerate(places):
        log.append_turn(chat, ANA, f"pregunta {number}", f"respuesta {number}", FACTS)
        log.set_system(chat, f"sistema {number}")
    for number, chat in enumerate(places):
        assert texts(log, chat) == [f"pregunta {number}", f"respuesta {number}"]
        assert log.system(chat) == f"sistema {number}"


def test_a_chat_that_never_was_has_nothing(log: DialogueLog) -> None:
    assert log.history(CHAT) == []
    assert log.system(CHAT) == ""
    assert log.preferences(CHAT) == {}
    assert log.undo(CHAT) is False
    assert log.consent(ANA) is None
    log.new_conversation(CHAT)
    assert log.forget(ANA) == 0 or log.export_user(ANA)["chats"] == []


@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
def test_any_text_can_be_stored(log: DialogueLog, nasty: str) -> None:
    _, reply = log.append_turn(CHAT, ANA, nasty, nasty, FACTS)
    log.set_system(CHAT, nasty)
    log.inbox_put(1, CHAT, ANA, nasty)
    log.inbox_reply(1, nasty)
    log.correct(CHAT, reply, ANA, nasty)
    clean = "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in nasty)
    assert texts(log) == [clean, clean]
    assert log.system(CHAT) == clean
    assert (log.inbox_pending()[0].payload, log.inbox_pending()[0].reply) == (clean, clean)


def test_another_reply_takes_the_place_of_the_last(log: DialogueLog) -> None:
    log.append_turn(CHAT, ANA, "uno", "primera", FACTS)
    asked, first = log.append_turn(CHAT, ANA, "dos", "segunda", FACTS)
    log.set_consent(ANA, True)
    second = log.replace_reply(CHAT, "tercera", FACTS, reply_ids=(9,))
    third = log.replace_reply(CHAT, "cuarta", FACTS)
    assert first < second < third
    assert texts(log) == ["uno", "primera", "dos", "cuarta"]
    assert stored(log)[-3:] == ["segunda", "tercera", "cuarta"], "with consent they stay, to be compared"
    assert log.undo(CHAT)
    assert texts(log) == ["uno", "primera"]
    assert stored(log)[2:] == [None] * 4
    assert asked


def test_a_superseded_reply_without_consent_is_erased(log: DialogueLog) -> None:
    log.append_turn(CHAT, ANA, "uno", "primera", FACTS)
    log.replace_reply(CHAT, "segunda", FACTS)
    assert stored(log) == ["uno", None, "segunda"]


def test_there_must_be_a_reply_to_replace(log: DialogueLog) -> None:
    with pytest.raises(NothingToReplace, match="chat 77"):
        log.replace_reply(CHAT, "otra", FACTS)
    log.append_turn(CHAT, ANA, "uno", "primera", FACTS)
    log.new_conversation(CHAT)
    with pytest.raises(NothingToReplace):
        log.replace_reply(CHAT, "otra", FACTS)


def test_another_reply_takes_no_place_but_that_of_its_own_question(log: DialogueLog) -> None:
    """Its question may be erased while it is made; the last reply is then somebody else's."""
    log.append_turn(GROUP, LUIS, "de Luis", "para Luis", FACTS)
    asked, _ = log.append_turn(GROUP, ANA, "de Ana", "para Ana", FACTS)
    assert log.replace_reply(GROUP, "otra para Ana", FACTS, answers=asked)
    log.forget(ANA)
    with pytest.raises(NothingToReplace):
        log.replace_reply(GROUP, "más para Ana", FACTS, answers=asked)
    assert texts(log, GROUP) == ["de Luis", "para Luis"]


def test_of_a_very_long_conversation_the_last_turns_are_read(log: DialogueLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """With consent a conversation may go on for years. The oldest turn that is read changes seldom."""
    monkeypatch.setattr(turns, "HISTORY", 20)

    def talk(num_turns: int) -> list[str]:
        for _ in range(num_turns):
            log.append_turn(CHAT, ANA, str(len(stored(log)) // 2), "re", FACTS)
        return texts(log)

    assert len(talk(19)) == 38
    found = talk(1)
    assert (found[0], found[-2], len(found)) == ("10", "19", 20)
    found = talk(9)
    assert (found[0], found[-2], len(found)) == ("10", "28", 38)
    assert talk(1)[0] == "20"


def test_undo_takes_turns_back_one_by_one_and_keeps_their_count(log: DialogueLog) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    log.set_consent(ANA, True)
    for word in ("uno", "dos"):
        log.append_turn(CHAT, ANA, word, f"re {word}", FACTS)
    assert log.undo(CHAT)
    assert texts(log) == ["uno", "re uno"]
    assert log.undo(CHAT)
    assert not log.undo(CHAT)
    assert stored(log) == [None] * 4
    assert log.count_since(ANA, since) == 2, "else /deshacer would lift the daily limit"


def test_a_new_conversation_keeps_only_what_may_be_kept(log: DialogueLog) -> None:
    log.set_consent(ANA, True)
    log.append_turn(GROUP, ANA, "con permiso", "re con", FACTS)
    _, reply = log.append_turn(GROUP, LUIS, "sin permiso", "re sin", FACTS)
    _, kept = log.append_turn(GROUP, ANA, "con otra vez", "re otra", FACTS)
    log.correct(GROUP, kept, LUIS, "corregido sin permiso")
    log.correct(GROUP, kept, ANA, "corregido con permiso")
    log.set_system(GROUP, "eres amable")
    log.new_conversation(GROUP)
    assert texts(log, GROUP) == []
    assert stored(log) == ["con permiso", "re con", None, None, "con otra vez", "re otra"]
    assert log.stats()["corrections"] == 1
    assert log.system(GROUP) == "eres amable"
    assert not log.correct(GROUP, reply, LUIS, "tarde"), "nothing is left to correct"
    log.append_turn(GROUP, LUIS, "otra", "vez", FACTS)
    assert texts(log, GROUP) == ["otra", "vez"]
    assert log.stats()["conversations"] == 2


def test_preferences_are_replaced_whole(log: DialogueLog) -> None:
    log.set_preferences(CHAT, {"temperature": 0.5, "max_new_tokens": 64})
    log.set_preferences(CHAT, {"temperature": 1})
    assert log.preferences(CHAT) == {"temperature": 1}
    assert log.preferences(GROUP) == {}


def test_two_preferences_changed_at_once_both_hold(log: DialogueLog) -> None:
    for number in range(20):
        with ThreadPoolExecutor(2) as pool:
            for name in ("temperature", "max_new_tokens"):
                pool.submit(log.set_preference, CHAT, name, number)
        assert log.preferences(CHAT) == {"temperature": number, "max_new_tokens": number}
    assert log.set_preference(CHAT, "temperature", None) == {"max_new_tokens": 19}


def test_a_group_that_migrates_takes_everything_along(log: DialogueLog) -> None:
    log.append_turn(GROUP, ANA, "antes", "re antes", FACTS)
    log.set_system(GROUP, "eres amable")
    log.inbox_put(1, GROUP, ANA, "{}")
    log.move_chat("telegram", GROUP.chat_id, -2002)
    moved = Chat("telegram", -2002, 5)
    assert texts(log, moved) == ["antes", "re antes"]
    assert log.system(moved) == "eres amable"
    assert log.inbox_pending()[0].chat == moved
    assert log.history(GROUP) == []


def test_a_group_that_migrates_where_it_already_spoke_keeps_the_new_conversation(log: DialogueLog) -> None:
    log.append_turn(GROUP, ANA, "antes", "re antes", FACTS)
    moved = Chat("telegram", -2002, 5)
    log.append_turn(moved, ANA, "después", "re después", FACTS)
    log.move_chat("telegram", GROUP.chat_id, -2002)
    assert texts(log, moved) == ["después", "re después"]
    assert stored(log) == [None, None, "después", "re después"]
    assert log.stats()["conversations"] == 2


def test_many_threads_lose_and_mix_nothing(log: DialogueLog) -> None:
    """Turns of one chat stay pairs, and the chat gets one conversation, whoever is first."""

    def work(worker: int) -> None:
        for number in range(10):
            log.append_turn(CHAT, worker, f"{worker}/{number}", f"re {worker}/{number}", FACTS)
            log.append_turn(Chat("telegram", worker), worker, "solo", "re solo", FACTS)
            log.history(CHAT)
            log.inbox_put(worker * 100 + number, CHAT, worker, "{}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    spoken = texts(log)
    assert len(spoken) == 160
    for worker in range(1, 9):
        own = [text for text in spoken if text.removeprefix("re ").startswith(f"{worker}/")]
        assert own == [text for n in range(10) for text in (f"{worker}/{n}", f"re {worker}/{n}")]
    assert log.stats()["conversations"] == 9
    assert len(log.inbox_pending()) == 80


def test_an_error_in_the_middle_leaves_nothing(log: DialogueLog) -> None:
    def work(conn: Connection) -> None:
        turns.append_turn(conn, CHAT, ANA, "a medias", "re", FACTS)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log.database.write(work)
    assert log.history(CHAT) == []
    log.append_turn(CHAT, ANA, "entera", "re", FACTS)
    assert texts(log) == ["entera", "re"]


def test_an_error_names_no_value_of_a_row(log: DialogueLog) -> None:
    """SQLAlchemy's errors quote the parameters, people's text, and errors end in logs."""
    statement = text("INSERT INTO nowhere VALUES (:text)")
    with pytest.raises(LogError) as caught:
        log.database.write(lambda conn: conn.execute(statement, {"text": "mi secreto"}))
    assert "nowhere" in str(caught.value)
    assert "\n" not in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "mi secreto" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("seed", range(3))
def test_the_log_agrees_with_plain_lists(tmp_path: Path, seed: int) -> None:
    """Turns, other replies, undoing and new conversations in any order, against the obvious way to keep them."""
    draw = random.Random(seed)
    chats = [Chat("telegram", 1), Chat("telegram", -5), Chat("telegram", -5, 2)]
    kept: dict[Chat, list[list[str]]] = {chat: [] for chat in chats}
    with DialogueLog(sqlite_url(tmp_path / "dialogues.db")) as log:
        log.set_consent(2, True)
        for step in range(120):
            chat = draw.choice(chats)
            said = kept[chat]
            match draw.choice(["say", "say", "say", "repeat", "undo", "new"]):
                case "say":
                    log.append_turn(chat, draw.choice([1, 2]), f"dice {step}", f"responde {step}", FACTS)
                    said.append([f"dice {step}", f"responde {step}"])
                case "repeat" if said:
                    log.replace_reply(chat, f"corrige {step}", FACTS)
                    said[-1][1] = f"corrige {step}"
                case "undo":
                    assert log.undo(chat) is bool(said)
                    said[-1:] = []
                case "new" if draw.random() < 0.3:
                    log.new_conversation(chat)
                    said.clear()
            assert {chat: texts(log, chat) for chat in chats} == {
                chat: [text for turn in said for text in turn] for chat, said in kept.items()
            }
