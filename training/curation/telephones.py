"""Telephone numbers in Spanish text, by the numbering plans of the countries where it is spoken (phonenumbers).

A number with its country's code counts wherever it is from; without one it must be one of these countries', and have
nine digits or more unless a word such as "teléfono" stands before it: shorter ones look like any other number.
"""

import re
from collections.abc import Iterator

import phonenumbers

_COUNTRIES = (
    "ES", "MX", "CO", "AR", "PE", "VE", "CL", "EC", "GT", "CU", "BO", "DO", "HN", "PY", "SV", "NI", "CR", "PA", "UY",
    "PR", "US", "GQ",
)  # fmt: skip
_CANDIDATE = re.compile(r"(?<![\w.,])(?:\+|00)?\(?\d(?:[ ().\-/]{0,3}\d){5,14}(?![\d]|[.,]\d)")
_WORD = re.compile(
    r"(?<!\w)(?:tel[eé]?f?o?n?o?|tlfn?o?|m[oó]vil|celular|cel|fijo|whats?app|wasap|ll[aá]m[aeo]\w{0,6})\b\W{0,4}(?:\w{1,20}\W{1,3}){0,4}$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\d{4}-\d\d?-\d\d?(?!\d)|(?<!\d)\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d(?!\d)|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d$"
)
_QUANTITY = re.compile(r"\d+\.\d{4,}|\d{1,3}(?:[ .]\d{3})*(?:[ .]000){2,}")
_SUM_BEFORE, _SUM_AFTER = re.compile(r"\d\s{0,2}[+*×=-]\s{1,2}$"), re.compile(r"\s{1,2}[+*×=-]\s{1,2}\d")
_LOOK_BACK = 60


def telephones(text: str) -> Iterator[tuple[int, int]]:
    """Where they stand."""
    for found in _CANDIDATE.finditer(text):
        number, num_digits = found[0], sum(char.isdigit() for char in found[0])
        if _DATE.search(number) or _QUANTITY.fullmatch(number):
            continue
        if number.startswith("+") or number.startswith("00"):
            if _valid("+" + number.removeprefix("+").removeprefix("00"), None):
                yield found.span()
            continue
        before = text[max(0, found.start() - _LOOK_BACK) : found.start()]
        if _SUM_BEFORE.search(before) or _SUM_AFTER.match(text, found.end()):
            continue
        named = _WORD.search(before)
        counting = num_digits > 1.5 * len(re.findall(r"\d+", number))  # "1 2 3 4 5 6 7 8 9" counts
        if named or (num_digits >= 9 and counting and any(_valid(number, country) for country in _COUNTRIES)):
            yield found.span()


def _valid(number: str, country: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, country))
    except phonenumbers.NumberParseException:
        return False
