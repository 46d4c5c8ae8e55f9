"""What reaches a terminal: nothing that controls it, lines that end between words."""

from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

from bot.screen import WordWrap, harmless


def wrapped(pieces: list[str], width: int, column: int = 0) -> str:
    wrap = WordWrap(width, column)
    return "".join(map(wrap.push, pieces)) + wrap.flush()


WORDS = st.lists(st.sampled_from(["a", "año", "caña,", "🙂", "¡¿", "transparencias", "", "\n"]), max_size=30)


@settings(max_examples=50, deadline=None)
@given(WORDS, st.lists(st.integers(1, 6), min_size=200), st.integers(20, 40), st.integers(0, 5))
def test_wrapping_changes_spaces_into_line_ends_only_and_keeps_the_width(
    words: list[str], sizes: list[int], width: int, column: int
) -> None:
    text = " ".join(words)
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    shown = wrapped([*pieces, rest], width, column)
    assert shown.replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")
    for i, line in enumerate(shown.split("\n")):
        used = wcswidth(line.rstrip()) + (column if i == 0 else 0)
        assert used <= width


def test_lines_break_between_words_however_the_text_arrives() -> None:
    text = "una frase bastante larga para romperla en varias líneas"
    expected = "una frase bastante\nlarga para romperla\nen varias líneas"
    assert wrapped([text], 20) == expected
    assert wrapped(list(text), 20) == expected


def test_a_word_longer_than_the_line_is_left_to_the_terminal() -> None:
    assert wrapped(["x" * 50 + " fin"], 20) == "x" * 50 + " fin"


def test_control_codes_are_taken_out() -> None:
    assert harmless("a\x1b[2Jb\x07c\x9bd\te\nf\u202eg") == "a[2Jbcd\te\nfg"
