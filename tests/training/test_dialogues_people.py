"""People in the log: ratings, consent, limits, what they may see, figures; on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from tests.training.conftest import CHAT, FACTS, GROUP, stored, texts
from training.dialogues import Chat, DialogueLog
from training.errors import LogCompactionError
from training.schema import consents, messages

ANA, LUIS = 77, 88


def age(log: DialogueLog, days: int) -> None:
    """Make everything that is stored so much older."""
    at = datetime.now(UTC) - timedelta(days=days)
    log.database.write(lambda conn: conn.execute(update(messages).values(created_at=at)))


def test_ratings_and_corrections_keep_the_last_word(log: DialogueLog) -> None:
    asked, reply = log.append_turn(CHAT, ANA, "uno", "primera", FACTS)
    assert log.rate(CHAT, reply, ANA, 1)
    assert log.rate(CHAT, reply, ANA, -1)
    assert log.rate(CHAT, reply, LUIS, 1)
    assert log.correct(CHAT, reply, ANA, "una")
    assert log.correct(CHAT, reply, ANA, "otra")
    found = log.stats()
    assert (found["ratings_up"], found["ratings_down"], found["corrections"]) == (1, 1, 1)
    assert [row["text"] for row in log.export_user(ANA)["corrections"]] == ["otra"]
    assert asked


def test_what_is_no_reply_of_the_chat_cannot_be_rated(log: DialogueLog) -> None:
    """The number in a button's data can be forged by any client."""
    asked, reply = log.append_turn(CHAT, ANA, "uno", "primera", FACTS)
    for chat, number in [(CHAT, asked), (CHAT, reply + 1), (CHAT, -1), (GROUP, reply), (Chat("terminal", 77), reply)]:
        assert not log.rate(chat, number, ANA, 1)
        assert not log.correct(chat, number, ANA, "mejor")
    assert not log.correct(CHAT, reply, ANA, " \n")
    log.undo(CHAT)
    assert not log.rate(CHAT, reply, ANA, 1)


def test_consent_is_a_ledger(log: DialogueLog) -> None:
    for granted, version in [(True, 1), (False, 1), (True, 2)]:
        log.set_consent(ANA, granted, text_version=version)
        assert log.consent(ANA) is granted
    assert log.consent(LUIS) is None
    rows = log.database.read(lambda conn: conn.execute(select(consents).order_by(consents.c.id)).all())
    assert [(row.user_id, row.granted, row.text_version) for row in rows] == [
        (ANA, True, 1),
        (ANA, False, 1),
        (ANA, True, 2),
    ]
    assert rows[0].created_at < rows[1].created_at < rows[2].created_at


def test_saying_the_same_again_adds_no_line_and_rewrites_no_file(
    log: DialogueLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can press a button a thousand times; everybody else would wait for each rewriting."""
    num_compacted = 0

    def compact() -> None:
        nonlocal num_compacted
        num_compacted += 1
        if num_compacted == 1:
            raise LogCompactionError("another process reads")

    monkeypatch.setattr(log.database, "compact", compact)
    for _ in range(5):
        log.set_consent(LUIS, False)
    assert (len(log.export_user(LUIS)["consents"]), num_compacted) == (1, 0)
    log.set_consent(ANA, True)
    log.append_turn(CHAT, ANA, "uno", "re", FACTS)
    log.new_conversation(CHAT)
    with pytest.raises(LogCompactionError):
        log.set_consent(ANA, False)
    for _ in range(3):
        log.set_consent(ANA, False)  # what was not driven out of the files is, the next time
    assert (len(log.export_user(ANA)["consents"]), num_compacted) == (2, 2)


def test_withdrawal_erases_all_but_the_open_conversations(log: DialogueLog) -> None:
    log.set_consent(ANA, True)
    log.set_consent(LUIS, True)
    log.append_turn(GROUP, ANA, "vieja", "re vieja", FACTS)
    _, others = log.append_turn(GROUP, LUIS, "de Luis", "re Luis", FACTS)
    log.correct(GROUP, others, ANA, "corregido por Ana")
    log.new_conversation(GROUP)
    log.append_turn(CHAT, ANA, "abierta", "borrador", FACTS)
    log.replace_reply(CHAT, "re abierta", FACTS)
    log.set_consent(ANA, False)
    assert stored(log) == [None, None, "de Luis", "re Luis", "abierta", None, "re abierta"]
    assert texts(log) == ["abierta", "re abierta"], "the chat goes on"
    assert log.stats()["corrections"] == 0
    assert log.stats()["messages_for_training"] == 2
    log.new_conversation(CHAT)
    assert stored(log)[4:] == [None] * 3


def test_blocking_can_be_taken_back(log: DialogueLog) -> None:
    for blocked in (True, True, False, False, True):
        log.set_blocked(ANA, blocked)
        assert log.blocked(ANA) is blocked
    assert not log.blocked(LUIS)


def test_messages_are_counted_from_a_time_on(log: DialogueLog) -> None:
    for _ in range(3):
        log.append_turn(CHAT, ANA, "x", "y", FACTS)
    age(log, days=2)
    log.append_turn(GROUP, ANA, "x", "y", FACTS)
    now = datetime.now(UTC)
    assert log.count_since(ANA, now - timedelta(days=1)) == 1
    assert log.count_since(ANA, (now - timedelta(days=3)).astimezone(None)) == 4
    assert log.count_since(LUIS, now - timedelta(days=3)) == 0


def test_purge_erases_old_text_without_consent(log: DialogueLog) -> None:
    log.set_consent(LUIS, True)
    log.append_turn(GROUP, LUIS, "viejo con permiso", "re", FACTS)
    log.append_turn(CHAT, ANA, "viejo sin permiso", "re", FACTS)
    age(log, days=31)
    log.replace_reply(CHAT, "nueva a lo viejo", FACTS)
    log.append_turn(CHAT, ANA, "nuevo", "re nuevo", FACTS)
    month = datetime.now(UTC) - timedelta(days=30)
    assert log.purge(month) == 2
    assert stored(log) == ["viejo con permiso", "re", None, None, None, "nuevo", "re nuevo"]
    assert texts(log) == ["nuevo", "re nuevo"]
    assert log.purge(month) == 0


def test_a_person_sees_all_that_is_stored_of_them_and_nothing_of_others(log: DialogueLog) -> None:
    _, reply = log.append_turn(CHAT, ANA, "de Ana", "para Ana", FACTS, reply_ids=(1, 2))
    _, other = log.append_turn(GROUP, LUIS, "de Luis", "para Luis", FACTS)
    log.rate(GROUP, other, ANA, -1)
    log.correct(CHAT, reply, ANA, "mejor para Ana")
    log.correct(GROUP, other, LUIS, "mejor para Luis")
    log.set_system(CHAT, "eres de Ana")
    log.set_system(GROUP, "eres de Luis", user_id=LUIS)
    log.set_consent(ANA, True)
    log.set_blocked(ANA, True)
    log.inbox_put(1, CHAT, ANA, '{"text": "pendiente de Ana"}')
    found = log.export_user(ANA)
    assert [row["text"] for row in found["messages"]] == ["de Ana", "para Ana"]
    assert found["messages"][1]["ids"] == [1, 2]
    assert found["messages"][1]["sampling"] == dict(FACTS.sampling)
    assert [row["value"] for row in found["ratings"]] == [-1]
    assert [row["text"] for row in found["corrections"]] == ["mejor para Ana"]
    assert [row["granted"] for row in found["consents"]] == [True]
    assert [row["system"] for row in found["chats"]] == ["eres de Ana"]
    assert [row["payload"] for row in found["inbox"]] == ['{"text": "pendiente de Ana"}']
    assert found["blocked"] is True
    assert "Luis" not in str(found)


def test_figures_add_up(log: DialogueLog) -> None:
    log.set_consent(ANA, True)
    log.append_turn(CHAT, ANA, "uno", "re", FACTS)
    log.append_turn(GROUP, LUIS, "dos", "re", replace(FACTS, total_s=0.5, first_token_s=None))
    found = log.stats()
    assert found.pop("size_bytes") > 0
    assert found == {
        "conversations": 2,
        "messages": 4,
        "messages_with_text": 4,
        "messages_for_training": 2,
        "users": 2,
        "users_consenting": 1,
        "ratings_up": 0,
        "ratings_down": 0,
        "corrections": 0,
        "inbox_pending": 0,
        "inbox_failed": 0,
        "reply_tokens": 10,
        "mean_first_token_s": 0.25,
        "mean_total_s": 1.0,
    }
