"""Personal data of Spanish-speaking people out of texts: each find becomes a word in brackets that says what it was.

Always: where the shape is telling (an e-mail, a CURP, eight digits with a letter) the shape suffices, so that a
mistyped number is no less private; where it is ordinary (a row of digits) the check digits decide. Digits of any script
and invisible characters between them hide nothing. Names and addresses are not found: no list of them would be whole.
Check digits: python-stdnum; numbering plans of telephones: phonenumbers.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum import iban, luhn
from stdnum.ar import cuit
from stdnum.es import dni

from training.curation.telephones import telephones

_INVISIBLE = {"Cf", "Mn", "Me", "Cc"}
# Nothing is searched in a text without five digits in a row but for separators, an @ or its name.
_WORTH = re.compile(r"(?:\d\W{0,3}){5}|@|arroba|[(\[]\s?at\s?[)\]]", re.IGNORECASE)

_DOMAIN = r"[^\W_](?:[\w-]{0,62}\.)+[^\W\d_]{2,24}"
_EMAIL = re.compile(rf"(?<![\w.+%-])[\w.+%-]{{1,64}}@{_DOMAIN}")
_SPELT_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}\s{1,3}(?:arroba|[(\[]\s?(?:at|arroba|@)\s?[)\]])\s{1,3}"
    r"[\w-]{1,63}(?:\s{0,3}(?:\.|\bpunto\b)\s{0,3}[\w-]{2,63}){1,4}",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ .-]?[A-Z0-9]){11,30}(?!\w)", re.IGNORECASE)
_SPANISH_IBAN = re.compile(r"ES\d{22}")
_CARD = re.compile(r"(?<![\d.,+])\d(?:[ -]?\d){12,18}(?!\d)")
_CARD_SHAPE = re.compile(r"(?:\d{4}[ -]){3}\d{4}|\d{4}[ -]\d{6}[ -]\d{5}")
_CURP = re.compile(r"(?<!\w)[A-Z][A-Z][A-Z]{2}\d{6}[HMX][A-Z]{5}[A-Z\d]\d(?!\w)", re.IGNORECASE)
_CUIT = re.compile(r"(?<!\d)(?:20|2[3-7]|30|33|34)(?:[- ]\d{8}[- ]\d|\d{9}|[- ]\d{2}\.\d{3}\.\d{3}[- ]\d)(?!\d)")
_NIE = re.compile(r"(?<!\w)[XYZ][- ]?\d{7}[- ]?[A-Z](?!\w)", re.IGNORECASE)
_DNI = re.compile(r"(?<![\w.,])(?:\d{8}|\d{1,2}\.\d{3}\.\d{3})([ -]?)([A-Z])(?!\w)", re.IGNORECASE)
_NAMED_DNI = re.compile(
    r"(?<!\w)(?:d\.?n\.?i|n\.?i\.?f|documento|c[eé]dula|pasaporte)\b\.?[^\d\n]{0,20}((?:[A-Z]{0,3})\d[\d.]{5,11}\d)(?!\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Redacted:
    """The text, and the kinds of what was taken out of it, one entry a find."""

    text: str
    kinds: tuple[str, ...]


def redact(text: str) -> Redacted:
    """The text with [correo], [IBAN], [tarjeta], [CURP], [CUIT], [NIE], [DNI] and [teléfono] for what was found."""
    plain, origin = _plain(text)
    if not _WORTH.search(plain):
        return Redacted(text, ())
    taken: list[tuple[int, int, str]] = []
    for kind, find in _FINDERS:
        for begin, end in find(plain):
            if all(end <= other or begin >= last for other, last, _ in taken):
                taken.append((begin, end, kind))
    pieces, at = [], 0
    for begin, end, kind in sorted(taken):
        pieces += [text[at : origin[begin]], f"[{kind}]"]
        at = origin[end - 1] + 1
    return Redacted("".join((*pieces, text[at:])), tuple(kind for _, _, kind in taken))


def _plain(text: str) -> tuple[str, list[int]]:
    """The text with ASCII digits and letters for those of other widths, without what is not seen; where each was."""
    if text.isascii():
        return text, list(range(len(text)))
    chars, origin = [], []
    for i, char in enumerate(text):
        if char.isascii() or not (char.isdecimal() or unicodedata.category(char) in _INVISIBLE or char > "\u2000"):
            one = char
        elif char.isdecimal():
            one = str(unicodedata.decimal(char))
        elif unicodedata.category(char) in _INVISIBLE:
            continue
        else:
            wide = unicodedata.normalize("NFKC", char)  # full-width letters and signs, odd spaces and hyphens
            one = "-" if unicodedata.category(char) == "Pd" else wide if len(wide) == 1 else char
        chars.append(one)
        origin.append(i)
    return "".join(chars), origin


Find = Callable[[str], Iterator[tuple[int, int]]]


def _shape(*patterns: re.Pattern[str]) -> Find:
    def find(text: str) -> Iterator[tuple[int, int]]:
        for pattern in patterns:
            for found in pattern.finditer(text):
                yield found.span()

    return find


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """A word may stand behind one, and looks like more of it: the longest beginning that is an IBAN counts."""
    for found in _IBAN.finditer(text):
        for end in range(found.end(), found.start() + 14, -1):
            compact = re.sub(r"[ .-]", "", text[found.start() : end]).upper()
            if text[end - 1].isalnum() and (_SPANISH_IBAN.fullmatch(compact) or iban.is_valid(compact)):
                yield found.start(), end
                break


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for found in _CARD.finditer(text):
        if _CARD_SHAPE.fullmatch(found[0]) or luhn.is_valid(re.sub(r"\D", "", found[0])):
            yield found.span()


def _cuits(text: str) -> Iterator[tuple[int, int]]:
    for found in _CUIT.finditer(text):
        if not found[0].isdigit() or cuit.is_valid(found[0]):
            yield found.span()


def _dnis(text: str) -> Iterator[tuple[int, int]]:
    """ "10000000 y" is a number and a word, unless the letter is the number's own."""
    for found in _DNI.finditer(text):
        if found[1] != " " or dni.is_valid(re.sub(r"\W", "", found[0]).zfill(9)):
            yield found.span()
    for found in _NAMED_DNI.finditer(text):
        yield found.span(1)


_FINDERS: tuple[tuple[str, Find], ...] = (
    ("correo", _shape(_EMAIL, _SPELT_EMAIL)),
    ("IBAN", _ibans),
    ("tarjeta", _cards),
    ("CURP", _shape(_CURP)),
    ("CUIT", _cuits),
    ("NIE", _shape(_NIE)),
    ("DNI", _dnis),
    ("teléfono", telephones),
)
