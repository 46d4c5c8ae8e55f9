"""Taken back is taken back: every adapter that learnt from such rows is found, on both databases."""

import pytest
from sqlalchemy import delete

from tests.training.conftest import CHAT, FACTS, GROUP
from tests.training.registry.conftest import Add
from training.dialogues import Chat, DialogueLog
from training.errors import RegistryError
from training.registry import Registry
from training.registry.entry import LINEAGE
from training.registry.forgotten import lost_rows, mark_forgotten
from training.schema import messages

ANA, EVE = 7, 8


@pytest.fixture
def rows(log: DialogueLog) -> dict[int, list[int]]:
    """Two people who consent, each with two turns in a chat of their own and one in a group -> ids of their rows."""
    found: dict[int, list[int]] = {ANA: [], EVE: []}
    for user in found:
        log.set_consent(user, True)
        for chat in (Chat("telegram", user), Chat("telegram", user), GROUP):
            found[user] += log.append_turn(chat, user, f"hola de {user}", "¡Hola!", FACTS)
    return found


def test_nothing_is_lost_while_all_consent(log: DialogueLog, rows: dict[int, list[int]]) -> None:
    assert lost_rows(log, rows[ANA] + rows[EVE]) == set()
    assert lost_rows(log, []) == set()
    assert lost_rows(log, [10**9]) == {10**9}


def test_forgetting_a_person_loses_theirs_and_the_replies_to_them(log: DialogueLog, rows: dict[int, list[int]]) -> None:
    log.forget(ANA)
    assert lost_rows(log, rows[ANA] + rows[EVE]) == set(rows[ANA])


@pytest.mark.parametrize("closed", [False, True])
def test_withdrawal_loses_open_conversations_too_whose_text_stays_as_context(
    log: DialogueLog, rows: dict[int, list[int]], closed: bool
) -> None:
    if closed:
        log.new_conversation(Chat("telegram", ANA))
    log.set_consent(ANA, False)
    assert lost_rows(log, rows[ANA] + rows[EVE]) == set(rows[ANA])


def test_an_undone_turn_is_lost_alone(log: DialogueLog, rows: dict[int, list[int]]) -> None:
    assert log.undo(Chat("telegram", ANA))
    assert lost_rows(log, rows[ANA]) == set(rows[ANA][2:4])


def test_a_reply_goes_with_the_person_it_answers_whoever_gave_it(log: DialogueLog) -> None:
    """In an imported chat a person answers another."""
    log.set_consent(ANA, True)
    log.set_consent(EVE, True)
    asked, answer = log.append_turn(CHAT, ANA, "¿y tú?", "bien", FACTS)

    def by_eve(conn: object) -> None:
        conn.execute(messages.update().where(messages.c.id == answer).values(user_id=EVE))  # type: ignore[attr-defined]

    log.database.write(by_eve)
    assert lost_rows(log, [asked, answer]) == set()
    log.set_consent(ANA, False)
    assert lost_rows(log, [asked, answer]) == {asked, answer}


def test_ids_are_not_used_again_after_everything_was_deleted(log: DialogueLog, rows: dict[int, list[int]]) -> None:
    """A new person's rows under old ids would make a forgotten adapter look innocent."""
    for user in (ANA, EVE):
        log.forget(user)
    log.database.write(lambda conn: conn.execute(delete(messages)))
    log.set_consent(9, True)
    new = log.append_turn(CHAT, 9, "hola", "¡Hola!", FACTS)
    assert min(new) > max(rows[EVE])
    assert lost_rows(log, rows[ANA] + rows[EVE]) == {*rows[ANA], *rows[EVE]}


def test_more_rows_than_a_query_takes(
    log: DialogueLog, rows: dict[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.registry.forgotten._AT_ONCE", 5)
    log.forget(EVE)
    assert lost_rows(log, [*rows[ANA], *rows[EVE], *range(1000, 1100)]) == {*rows[EVE], *range(1000, 1100)}


def test_only_the_adapters_that_saw_them_are_marked_and_once(
    log: DialogueLog, rows: dict[int, list[int]], registry: Registry, add: Add
) -> None:
    add("of-ana", row_ids=tuple(rows[ANA]))
    add("of-eve", row_ids=tuple(rows[EVE]))
    add("of-both", row_ids=(*rows[ANA], *rows[EVE]))
    add("of-files")
    assert mark_forgotten(registry, log, retire=False) == []
    log.forget(ANA)
    assert mark_forgotten(registry, log, retire=False) == ["of-ana", "of-both"]
    assert mark_forgotten(registry, log, retire=False) == []
    marks = {entry.id: entry.forgotten and entry.forgotten.num_rows for entry in registry.list()}
    assert marks == {"of-ana": 6, "of-eve": None, "of-both": 6, "of-files": None}
    log.set_consent(EVE, False)
    assert mark_forgotten(registry, log, retire=False) == ["of-eve"]
    log.set_consent(EVE, True)  # what is in the open conversation may be used again; what was learnt stays marked
    mark_forgotten(registry, log, retire=False)
    assert registry.get("of-both").forgotten.num_rows == 12  # type: ignore[union-attr]


def test_a_damaged_adapter_does_not_keep_others_from_being_retired(
    log: DialogueLog, rows: dict[int, list[int]], registry: Registry, add: Add
) -> None:
    add("a")
    add("b", row_ids=tuple(rows[ANA]))
    registry.promote("a")
    registry.promote("b")
    (registry.root / "a" / LINEAGE).write_text("{")
    log.forget(ANA)
    with pytest.raises(RegistryError, match="adapters delete a"):
        mark_forgotten(registry, log, retire=True)
    assert registry.serving().adapter is None


def test_the_setting_retires_what_is_marked_already(
    log: DialogueLog, rows: dict[int, list[int]], registry: Registry, add: Add
) -> None:
    add("clean")
    add("a", row_ids=tuple(rows[ANA]))
    registry.promote("clean")
    registry.promote("a")
    log.forget(ANA)
    mark_forgotten(registry, log, retire=False)
    assert registry.serving().adapter == "a"
    mark_forgotten(registry, log, retire=True)
    assert registry.serving().adapter == "clean"
    assert registry.changes()[-1].what == "retire"
