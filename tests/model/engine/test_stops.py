"""The gate shows exactly the text before the first stop string, however the text arrives."""

from hypothesis import given
from hypothesis import strategies as st

from model.engine.stops import TextGate

TEXTS = st.lists(st.text(alphabet="ab\nU:", max_size=4), max_size=12)
STOPS = st.lists(st.text(alphabet="ab\nU:", min_size=1, max_size=4), max_size=3)


@given(TEXTS, STOPS)
def test_shown_text_is_the_text_before_the_first_stop_string(texts: list[str], stops: list[str]) -> None:
    whole = "".join(texts)
    gate, shown, ids = TextGate(stops), "", []
    ends = []
    for token, text in enumerate(texts):
        ends.append((ends[-1] if ends else 0) + len(text))
        new, said = gate.push(token, text)
        shown += new
        ids += said
        if gate.stopped:
            break
    else:
        new, said = gate.flush()
        shown += new
        ids += said
    cut = len(shown)
    assert gate.stopped == any(stop in whole for stop in stops)
    if not gate.stopped:
        assert shown == whole
        assert ids == list(range(len(texts)))
    else:
        assert any(whole.startswith(stop, cut) for stop in stops)
        assert not any(stop in shown for stop in stops)
        assert ids == [token for token, end in enumerate(ends) if end <= cut]


def test_text_that_cannot_become_a_stop_string_is_not_held() -> None:
    gate = TextGate(["\nUsuario:"])
    assert gate.push(1, "Hola") == ("Hola", (1,))
    assert gate.push(2, "\nUs") == ("", ())
    assert gate.push(3, "o") == ("\nUso", (2, 3))
    assert gate.push(4, "\nUsu") == ("", ())
    assert gate.flush("ario") == ("\nUsuario", (4,))
