"""What was said before is found whatever its dress, and what only resembles it is not."""

import pytest

from tests.training.curation.conftest import turn
from training.curation.duplicates import Seen, plain

LONG = "Me gustaría saber cómo se prepara una buena tortilla de patatas con cebolla para cuatro personas"


@pytest.mark.parametrize(
    "again", ["hola que tal", "HOLA, ¿QUÉ TAL?", "  hola...   qué\ttal!!! ", "Ｈｏｌａ qué tal 😀"]
)
def test_case_accents_width_and_punctuation_hide_no_duplicate(again: str) -> None:
    seen = Seen(0.85)
    assert seen.check("Hola, ¿qué tal?", "bien") is None
    assert seen.check(again, "¡Bien!") == "duplicates"


def test_a_long_text_with_a_word_changed_is_nearly_the_same() -> None:
    seen = Seen(0.85)
    assert seen.check(LONG, "Con paciencia y buen aceite") is None
    assert seen.check(LONG.replace("cuatro", "cinco"), "Con paciencia y buen aceite") == "near_duplicates"
    assert Seen(1.0).check(LONG) is None


def test_another_reply_or_number_makes_a_short_turn_another_one() -> None:
    seen = Seen(0.85)
    said = [("¿cuánto es 2+2?", "4"), ("¿cuánto es 2+3?", "5"), ("hola", "buenas"), ("hola", "qué hay"), ("sí", "vale")]
    assert [seen.check(*one) for one in said] == [None] * len(said)


def test_where_the_message_ends_matters() -> None:
    seen = Seen(1.0)
    assert seen.check("a b", "c") is None
    assert seen.check("a", "b c") is None


def test_thousands_of_different_turns_all_stay_and_their_copies_all_go() -> None:
    """Bands that are too few or hashes that collide would drop what is new, or keep what is not."""
    seen = Seen(0.85)
    turns = [turn(n) for n in range(1000)]
    assert {seen.check(*one) for one in turns} == {None}
    assert {seen.check(*one) for one in turns} == {"duplicates"}


def test_texts_without_a_letter_and_very_long_ones_are_compared_too() -> None:
    seen = Seen(0.85)
    assert seen.check("", "") is None
    assert seen.check("¿?", "...") == "duplicates"
    document = " ".join(f"palabra{n * 7919 % 99991}" for n in range(30_000))
    assert seen.check(document) is None
    assert seen.check(document[:-200]) == "near_duplicates"


def test_plain_keeps_letters_and_digits_of_any_script() -> None:
    assert plain("¡Ñandú, 3 Ωμέγα_x!") == "nandu 3 ωμεγα x"
