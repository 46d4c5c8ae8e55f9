"""Long texts in parts that Telegram takes, cut where a reader would."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.splitting import MAX_LENGTH, is_visible, split, tidy


def _bare(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(st.text(), st.integers(4, 40))
def test_parts_hold_the_whole_text_and_none_is_too_long_or_empty(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(0 < len(part) <= limit and is_visible(part) for part in parts)
    if all(is_visible(char) or char.isspace() for char in text):
        assert _bare("".join(parts)) == _bare(text)


def test_a_short_text_is_one_part_and_4096_code_points_too() -> None:
    assert split("Hola") == ["Hola"]
    assert split("🙂" * MAX_LENGTH) == ["🙂" * MAX_LENGTH]
    assert [len(part) for part in split("🙂" * (MAX_LENGTH + 1))] == [MAX_LENGTH, 1]
    assert split("") == split(" \n") == split("\u200b\u200d") == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Primer párrafo.\n\nSegundo. Y más", "Primer párrafo."),
        ("Una línea entera\nOtra línea más", "Una línea entera"),
        ("Una frase entera. Otra frase más", "Una frase entera."),
        ("palabras sueltas sin puntos ni nada", "palabras sueltas sin"),
    ],
)
def test_the_cut_is_at_the_strongest_break_of_the_second_half(text: str, first: str) -> None:
    assert split(text, 24)[0] == first


@pytest.mark.parametrize("whole", ["e\u0301", "👩\u200d👩\u200d👧", "👍🏽", "🇪🇸"])
def test_a_drawn_character_is_not_cut(whole: str) -> None:
    for limit in range(12, 20):
        for part in split("x" + whole * 20, limit):
            assert not part.removeprefix("x").replace(whole, "")


def test_tidy_takes_out_what_cannot_be_stored_or_sent() -> None:
    assert tidy("a\x00b\ud800c\r\nd\x1b[31m\t.") == "ab\ufffdc\nd[31m\t."
    assert tidy("\x00 ") == ""
    "".join(split(tidy("\udfff" * 5000))).encode()
