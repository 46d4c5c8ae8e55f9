"""Examples: who they are of, what of them is learnt."""

from model.conversation import Message
from training.examples import Example, user_key

HELLO = (Message("system", "sé breve"), Message("user", "hola"), Message("assistant", "buenas"))


def test_a_person_has_the_same_key_in_every_process() -> None:
    """Python's own hash of a string differs between runs, and the split with it."""
    assert user_key("telegram", 123456789) == "ad468be2889edfa1"
    assert len({user_key("telegram", 1), user_key("terminal", 1), user_key("telegram", 11)}) == 3


def test_an_example_counts_the_replies_that_are_learnt_and_a_document_as_one() -> None:
    assert Example(HELLO, (False, False, True), "u").num_turns == 1
    assert Example(HELLO, (False, False, False), "u").num_turns == 0
    assert Example((), (), "u", document="érase una vez").num_turns == 1
    assert Example(HELLO, (False, False, True), "u").texts == ("hola", "buenas")
