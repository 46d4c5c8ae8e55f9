"""The inbox: an update enters once, is answered once, and leaves no text behind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from tests.training.conftest import FACTS, OpenLog
from training import forgetting
from training.dialogues import Chat, DialogueLog
from training.errors import Forgotten, LogError, UnstorableError
from training.schema import inbox, messages

CHAT = Chat("telegram", 77, 3)


def rows(log: DialogueLog) -> list[dict[str, Any]]:
    return [dict(row) for row in log.database.read(lambda conn: conn.execute(select(inbox)).mappings().all())]


def test_an_update_enters_once(log: DialogueLog, open_log: OpenLog) -> None:
    assert log.inbox_put(1000, CHAT, 5, '{"text": "hola"}')
    assert not log.inbox_put(1000, CHAT, 5, '{"text": "otra"}')
    (row,) = open_log().inbox_pending()
    assert (row.update_id, row.chat, row.user_id, row.payload) == (1000, CHAT, 5, '{"text": "hola"}')
    assert (row.state, row.reply, row.reply_id, row.attempts) == ("new", None, None, 0)
    assert datetime.now(UTC) - row.received_at < timedelta(minutes=1)


def test_what_is_pending_comes_in_the_order_of_arrival(log: DialogueLog) -> None:
    """After a week of silence Telegram goes on from a random update_id, perhaps a smaller one."""
    for number in (900, 901, 100, 101):
        log.inbox_put(number, CHAT, None, "{}")
    assert [row.update_id for row in log.inbox_pending()] == [900, 901, 100, 101]
    log.inbox_done(901)
    assert [row.update_id for row in log.inbox_pending()] == [900, 100, 101]


def test_a_turn_answers_its_update_in_the_same_transaction(log: DialogueLog) -> None:
    log.inbox_put(1, CHAT, 5, "{}")
    _, reply = log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=1)
    (row,) = log.inbox_pending()
    assert (row.state, row.reply, row.reply_id) == ("answered", "buenas", reply)
    log.inbox_done(1)
    assert log.inbox_pending() == []


def test_an_update_is_answered_once_however_often_it_is_tried(log: DialogueLog) -> None:
    """A commit may succeed and its answer get lost on the way; who then tries again must not say it twice."""
    log.inbox_put(1, CHAT, 5, "{}")
    first = log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=1)
    assert log.append_turn(CHAT, 5, "hola", "otra cosa", FACTS, update_id=1) == first
    log.inbox_put(2, CHAT, 5, "{}")
    second = log.replace_reply(CHAT, "mejor", FACTS, update_id=2)
    assert log.replace_reply(CHAT, "todavía mejor", FACTS, update_id=2) == second
    log.inbox_done(1)
    assert log.append_turn(CHAT, 5, "hola", "tarde", FACTS, update_id=1) == first
    assert [message.text for message in log.history(CHAT)] == ["hola", "mejor"]
    assert [(row.update_id, row.reply) for row in log.inbox_pending()] == [(2, "mejor")]


def test_an_update_that_is_not_there_any_more_comes_in_answered(log: DialogueLog) -> None:
    """The file was damaged and begun anew between the question and the answer."""
    _, reply = log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=1)
    (row,) = log.inbox_pending()
    assert (row.state, row.reply, row.reply_id, row.chat) == ("answered", "buenas", reply, CHAT)
    assert not log.inbox_put(1, CHAT, 5, "{}")


def test_a_fixed_answer_is_no_turn(log: DialogueLog) -> None:
    log.inbox_put(1, CHAT, 5, "{}")
    log.inbox_reply(1, "Has escrito mucho hoy.")
    (row,) = log.inbox_pending()
    assert (row.state, row.reply, row.reply_id) == ("answered", "Has escrito mucho hoy.", None)
    assert log.history(CHAT) == []


def test_what_is_done_keeps_its_number_and_no_text(log: DialogueLog) -> None:
    log.inbox_put(1, CHAT, 5, "{}")
    log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=1)
    log.inbox_done(1)
    log.inbox_reply(1, "tarde")
    log.inbox_failed(1, "tarde", 3)
    (row,) = rows(log)
    assert (row["state"], row["payload"], row["reply"], row["error"]) == ("done", None, None, None)
    assert not log.inbox_put(1, CHAT, 5, "{}")


def test_an_update_is_given_up_after_attempts_that_are_counted(log: DialogueLog, open_log: OpenLog) -> None:
    log.inbox_put(1, CHAT, 5, '{"text": "veneno"}')
    assert [log.inbox_begin(1) for _ in range(3)] == [1, 2, 3]
    assert open_log().inbox_pending()[0].attempts == 3
    log.inbox_failed(1, "KeyError" * 100, 3)
    assert log.inbox_pending() == []
    assert log.stats()["inbox_failed"] == 1
    (row,) = rows(log)
    assert (row["payload"], row["attempts"], row["error"]) == (None, 3, ("KeyError" * 100)[:200])
    assert not log.inbox_put(1, CHAT, 5, "{}")
    assert log.inbox_begin(404) == 0


def test_numbers_are_kept_for_two_days_at_least(log: DialogueLog) -> None:
    for number, hours in enumerate((0, 47, 49, 100)):
        log.inbox_put(number, CHAT, 5, "{}")
        at = datetime.now(UTC) - timedelta(hours=hours)
        change = update(inbox).where(inbox.c.update_id == number).values(received_at=at)
        log.database.write(partial(Connection.execute, statement=change))
    for number in (0, 1, 2):
        log.inbox_done(number)
    assert log.inbox_clean(datetime.now(UTC)) == 1
    assert sorted(row["update_id"] for row in rows(log)) == [0, 1, 3], "and what is pending is never cleaned"
    assert log.inbox_clean(datetime.now(UTC) - timedelta(hours=200)) == 0


def test_messages_in_flight_do_not_bring_a_forgotten_update_back(log: DialogueLog) -> None:
    log.inbox_put(1, CHAT, 5, '{"text": "hola"}')
    log.forget(5)
    with pytest.raises(Forgotten):
        log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=1)
    assert log.inbox_pending() == []
    (row,) = rows(log)
    assert (row["user_id"], row["chat_id"], row["payload"], row["reply"]) == (None, 0, None, None)
    assert log.database.read(lambda conn: len(conn.execute(select(messages)).all())) == 0


def test_what_is_stored_while_its_writer_is_forgotten_does_not_stay(log: DialogueLog) -> None:
    """Whichever of the two comes first, nothing of the person is there in the end; nor do they lock each other up."""
    for number in range(30):
        log.inbox_put(number, CHAT, 5, "{}")
        with ThreadPoolExecutor(2) as pool:
            storing = pool.submit(log.append_turn, CHAT, 5, "hola", "buenas", FACTS, update_id=number)
            pool.submit(log.database.write, lambda conn: forgetting.forget(conn, 5)).result()
        assert isinstance(storing.exception(), Forgotten | None)
        assert log.database.read(lambda conn: conn.execute(select(messages)).all()) == []


def test_forgetting_leaves_what_came_after_it_was_asked_for(log: DialogueLog) -> None:
    """Who erases everything and writes at once again is answered, also if the process ends in between."""
    for number in (9, 7, 8):  # 7 is the update that asks
        log.inbox_put(number, CHAT, 5, "{}")
    log.forget(5, up_to=7)
    assert [row.update_id for row in log.inbox_pending()] == [8]
    with pytest.raises(Forgotten):
        log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=9)
    log.append_turn(CHAT, 5, "hola", "buenas", FACTS, update_id=8)
    log.forget(5, up_to=404)
    assert log.inbox_pending() == [], "an update that is not known bounds nothing"


def test_a_number_that_no_database_holds_is_an_error_of_its_own(log: DialogueLog) -> None:
    """As a LogError it would be tried again for ever, and one poisoned update would stop the bot."""
    with pytest.raises(UnstorableError, match="too large") as caught:
        log.inbox_put(10**30, CHAT, 5, '{"text": "secreto"}')
    assert not isinstance(caught.value, LogError)
    assert "secreto" not in str(caught.value)
    assert log.inbox_put(1, CHAT, 5, "{}")


def test_undoing_answers_its_update_and_undoes_once(log: DialogueLog) -> None:
    """A crash between undoing and answering would undo a second turn when the update is tried again."""
    for word in ("uno", "dos"):
        log.append_turn(CHAT, 5, word, f"re {word}", FACTS)
    answers = ("Olvidado.", "No hay nada que deshacer.")
    for number in (1, 2, 3):
        log.inbox_put(number, CHAT, 5, "{}")
    assert log.undo(CHAT, update_id=1, answers=answers)
    assert log.undo(CHAT, update_id=1, answers=answers)
    assert [message.text for message in log.history(CHAT)] == ["uno", "re uno"]
    assert log.undo(CHAT, update_id=2, answers=answers)
    assert not log.undo(CHAT, update_id=3, answers=answers)
    assert not log.undo(CHAT, update_id=3, answers=answers)
    assert [(row.state, row.reply) for row in log.inbox_pending()] == [
        ("answered", answers[0]),
        ("answered", answers[0]),
        ("answered", answers[1]),
    ]


def test_an_edited_message_takes_the_place_of_its_turn_if_that_is_the_last(log: DialogueLog) -> None:
    first, _ = log.append_turn(CHAT, 5, "uno", "re uno", FACTS)
    log.inbox_put(1, CHAT, 5, "{}")
    for _ in range(2):
        second, _ = log.append_turn(CHAT, 5, "uno y medio", "re medio", FACTS, update_id=1, replaces=first)
    assert [message.text for message in log.history(CHAT)] == ["uno y medio", "re medio"]
    log.append_turn(CHAT, 5, "dos", "re dos", FACTS)
    log.append_turn(CHAT, 5, "tarde", "re tarde", FACTS, replaces=second)
    assert [message.text for message in log.history(CHAT)][0::2] == ["uno y medio", "dos", "tarde"]
