"""Personal data leave the texts, however they are written; ordinary numbers stay."""

import json
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import CHARLA
from training.curation.redaction import redact

TAKEN = [
    ("mi correo es juan.perez+x@gmail.com, vale", "mi correo es [correo], vale"),
    ("MARÍA.ÑU@EMPRESA.COM.MX", "[correo]"),
    ("ana arroba gmail punto com", "[correo]"),
    ("ana (at) hotmail.com", "[correo]"),
    ("ES91 2100 0418 4502 0005 1332 para pagar", "[IBAN] para pagar"),
    ("iban es9121000418450200051332.", "iban [IBAN]."),
    ("ES00 1234 1234 1234 1234 1234", "[IBAN]"),  # mistyped: its check digits are wrong
    ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
    ("4111 1111 1111 1111", "[tarjeta]"),
    ("tarjeta 5500005555555559 cvv", "tarjeta [tarjeta] cvv"),
    ("4532 1234 1234 1234", "[tarjeta]"),  # mistyped
    ("3782-822463-10005", "[tarjeta]"),
    ("GARC850101HDFRRL09", "[CURP]"),
    ("garc850101mdfrrla9", "[CURP]"),
    ("20-12345678-6", "[CUIT]"),
    ("27-12.345.678-0", "[CUIT]"),
    ("cuit 20123456786", "cuit [CUIT]"),
    ("12345678Z", "[DNI]"),
    ("12345678A", "[DNI]"),  # mistyped
    ("12345678-z, 12.345.678-Z", "[DNI], [DNI]"),
    ("12345678 Z", "[DNI]"),
    ("mi dni es 12345678", "mi dni es [DNI]"),
    ("DNI: 27.345.678", "DNI: [DNI]"),
    ("X1234567L y x-1234567-l", "[NIE] y [NIE]"),
    ("llámame al 612 34 56 78", "llámame al [teléfono]"),
    ("612345678", "[teléfono]"),
    ("+34 612345678 / 0034612345678", "[teléfono] / [teléfono]"),
    ("91 123 45 67", "[teléfono]"),
    ("+52 55 1234 5678", "[teléfono]"),
    ("(011) 4321-5678", "[teléfono]"),
    ("mi cel es 4321-5678", "mi cel es [teléfono]"),
    ("+1 202 555 0173", "[teléfono]"),
    ("６１２３４５６７８", "[teléfono]"),  # full width
    ("٦١٢٣٤٥٦٧٨", "[teléfono]"),  # another script
    ("6\u200b12\u200d345\u2060678", "[teléfono]"),  # invisible characters between
    ("ana＠gmail.com", "[correo]"),
]
KEPT = [
    "27.345.678 pesos y 47.431.256 habitantes",
    "10000000 y más",
    "1 2 3 4 5 6 7 8 9",
    "123456789 + 987654321",
    "3.141592653 y 0,123456789",
    "el 2024-11-21 a las 10:30",
    "el 12/10/1492 y 1998-2004",
    "3 000 000 000 de años, 1.000.000.000",
    "299792458 m/s",
    "http://ejemplo.es/a@b y @usuario",
    "el ISBN 978-84-376-0494-7",
    "2+2=4, son las 12:30 del 2024",
    "",
]
HARMLESS = st.characters(exclude_categories=["Nd", "Nl", "No", "Cs", "So"]).filter(
    lambda char: not any(c == "@" or c.isdigit() for c in unicodedata.normalize("NFKC", char))
)


@pytest.mark.parametrize(("text", "wanted"), TAKEN)
def test_personal_data_become_a_word_in_brackets(text: str, wanted: str) -> None:
    found = redact(text)
    assert found.text == wanted
    assert redact(found.text).text == wanted  # nothing more the second time
    assert len(found.kinds) == wanted.count("[")


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_numbers_stay(text: str) -> None:
    """A filter that takes years and sums away teaches a model to answer with brackets."""
    assert redact(text).text == text


def test_the_projects_own_dialogues_hold_nothing_to_redact() -> None:
    text = (CHARLA / "dialogues_b.jsonl").read_text(encoding="utf-8")
    taken = [
        kind
        for line in text.splitlines()
        for turn in json.loads(line)["turns"]
        for kind in redact(turn["content"]).kinds
    ]
    assert taken == []


@pytest.mark.parametrize(
    "evil", ["a" * 16000 + "@", "1 " * 8000, "a@" * 8000, "ES91" * 4000, "a arroba " * 2000, "@a." * 5000]
)
def test_a_hostile_text_is_read_in_linear_time(evil: str) -> None:
    """A regular expression that backtracks would hold a run up for hours; this takes 20 ms."""
    begun = time.process_time()
    redact(evil)
    assert time.process_time() - begun < 5


@settings(max_examples=100, deadline=None)
@given(st.text(HARMLESS, max_size=40), st.text(HARMLESS, max_size=40), st.sampled_from(TAKEN))
def test_what_stands_around_is_kept_letter_for_letter(before: str, after: str, data: tuple[str, str]) -> None:
    """Places are found in a plainer text; they must point to the same characters in the real one."""
    text, wanted = data
    assert redact(f"{before}\n\n{text}\n\n{after}").text == f"{before}\n\n{wanted}\n\n{after}"
