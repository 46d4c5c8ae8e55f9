"""What may be trained on: consented turns alone, each person's apart, with what people who consent thought of them."""

import pytest

from tests.training.conftest import CHAT, FACTS, GROUP
from training.consented import ConsentedDialogue
from training.dialogue_files import FileDialogue, FileMessage, store
from training.dialogues import Chat, DialogueLog
from training.schema import now


def found(log: DialogueLog) -> list[ConsentedDialogue]:
    return list(log.consented_dialogues())


def said(dialogue: ConsentedDialogue) -> list[tuple[str, list[str]]]:
    return [(turn.text, [reply.text for reply in turn.replies]) for turn in dialogue.turns]


def test_an_empty_log_has_none(log: DialogueLog) -> None:
    assert found(log) == []


@pytest.mark.parametrize("word", [None, False])
def test_nothing_comes_of_a_person_who_did_not_consent(log: DialogueLog, word: bool | None) -> None:
    if word is not None:
        log.set_consent(5, word)
    log.append_turn(CHAT, 5, "hola", "buenas", FACTS)
    assert found(log) == []


def test_consent_counts_as_it_is_now_and_a_withdrawal_takes_all_away(log: DialogueLog) -> None:
    log.append_turn(CHAT, 5, "hola", "buenas", FACTS)
    log.set_consent(5, True)
    assert [said(one) for one in found(log)] == [[("hola", ["buenas"])]]
    log.set_consent(5, False)
    assert found(log) == []


def test_a_group_is_taken_apart_by_person_without_those_who_do_not_consent(log: DialogueLog) -> None:
    """One person's words in another's dialogue would cross the split by person."""
    log.set_consent(5, True)
    log.set_consent(7, True)
    for user_id, text in ((5, "soy cinco"), (6, "secreto"), (7, "soy siete"), (5, "otra vez cinco")):
        log.append_turn(GROUP, user_id, text, f"re {text}", FACTS)
    assert [(one.user_id, said(one)) for one in found(log)] == [
        (5, [("soy cinco", ["re soy cinco"]), ("otra vez cinco", ["re otra vez cinco"])]),
        (7, [("soy siete", ["re soy siete"])]),
    ]
    assert "secreto" not in str(found(log))


def test_superseded_replies_come_with_the_live_one_and_undone_turns_do_not(log: DialogueLog) -> None:
    log.set_consent(5, True)
    user_row, first = log.append_turn(CHAT, 5, "hola", "primera", FACTS)
    second = log.replace_reply(CHAT, "segunda", FACTS)
    log.append_turn(CHAT, 5, "deshazme", "ay", FACTS)
    log.undo(CHAT)
    log.rate(CHAT, first, 5, -1)
    log.rate(CHAT, second, 5, 1)
    ((turn,),) = [one.turns for one in found(log)]
    assert turn.id == user_row
    assert [(r.id, r.text, r.live, r.rating) for r in turn.replies] == [
        (first, "primera", False, -1),
        (second, "segunda", True, 1),
    ]


def test_only_the_one_who_was_answered_corrects_and_only_who_consents_rates(log: DialogueLog) -> None:
    """Another's correction in a group would teach their words under a row that does not know them."""
    for user_id in (5, 6):
        log.set_consent(user_id, True)
    _, reply = log.append_turn(GROUP, 5, "hola", "buenas", FACTS)
    log.correct(GROUP, reply, 6, "palabras de seis")
    log.rate(GROUP, reply, 6, -1)
    log.rate(GROUP, reply, 9, -1)  # has not said
    ((turn,),) = [one.turns for one in found(log)]
    assert (turn.replies[0].rating, turn.replies[0].correction) == (-1, None)
    log.correct(GROUP, reply, 5, "muy buenas")
    ((turn,),) = [one.turns for one in found(log)]
    assert turn.replies[0].correction == "muy buenas"


def test_the_system_text_comes_along_unless_somebody_else_wrote_it(log: DialogueLog) -> None:
    for user_id in (5, 6):
        log.set_consent(user_id, True)
    log.append_turn(GROUP, 5, "hola", "buenas", FACTS)
    log.append_turn(GROUP, 6, "hola", "buenas", FACTS)
    log.set_system(GROUP, "habla como un pirata", user_id=6)
    assert {one.user_id: one.system for one in found(log)} == {5: "", 6: "habla como un pirata"}
    log.set_system(GROUP, "de nadie")
    assert {one.system for one in found(log)} == {"de nadie"}


def test_an_imported_reply_of_a_person_needs_both_consents(log: DialogueLog) -> None:
    def put(chat_id: int) -> None:
        spoken = (FileMessage("user", "hola", 5, now()), FileMessage("assistant", "soy yo", 8, now()))
        log.database.write(lambda conn: store(conn, [FileDialogue(chat_id, spoken)]))

    put(-1)
    assert [said(one) for one in found(log)] == [[("hola", ["soy yo"])]]
    log.set_consent(8, False)
    assert [said(one) for one in found(log)] == [[("hola", [])]]


def test_an_imported_system_message_is_the_dialogues_own(log: DialogueLog) -> None:
    spoken = tuple(FileMessage(*item, 0, now()) for item in (("system", "sé breve"), ("user", "a"), ("assistant", "b")))
    log.database.write(lambda conn: store(conn, [FileDialogue(-3, spoken)]))
    (one,) = found(log)
    assert (one.system, one.system_id, said(one)) == ("sé breve", one.turns[0].id - 1, [("a", ["b"])])


def test_more_than_a_page_comes_in_order(log: DialogueLog) -> None:
    log.set_consent(5, True)
    for number in range(130):
        log.append_turn(Chat("telegram", number + 100), 5, f"hola {number}", "buenas", FACTS)
    assert [one.turns[0].text for one in found(log)] == [f"hola {n}" for n in range(130)]
