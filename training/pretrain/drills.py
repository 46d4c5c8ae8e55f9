"""Drills for what a small model does not pick up from talk: copying an unseen name, remembering it, small sums,
saying "no lo sé".

Most names are invented from syllables, so that the only way to be right is to look back and copy. No reply puts a
name directly behind an opening mark: there its tokens would differ from those in the user's sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Literal

from training.pretrain.charla import FOLDER, fill, held_out, records, said
from training.pretrain.noise import noisy

_ONSETS = "b c ch d f g l ll m n ñ p r s t v z br cl cr dr fl gr pl pr tr j y"
ONSETS = _ONSETS.split()
_VOWELS = "a a a e e i i o o u ia io ie ue"
VOWELS = _VOWELS.split()
CODAS = ("", "", "", "", "n", "s", "r", "l")

_HELD_OUT_NAMES = (
    "Casilda Fermín Leonor Ulises Brígida Anselma Teodoro Mirta Saúl Edurne Ovidio Zaida Casimiro Rebeca "
    "Braulio Nélida Gaspar Oriana Lisandro Maite Tadeo Ifigenia Romualdo Petra Eloy Amaranta Froilán "
    "Delfina Baltasar Yaiza"
)
HELD_OUT_NAMES = frozenset(_HELD_OUT_NAMES.split())  # for measuring: training never sees them
_WORDS = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve veinte"
)
WORDS = _WORDS.split()
SUM_FORMS = (
    *("¿Cuánto es {a} {o} {b}?", "¿Cuánto es {a} {s} {b}?", "¿Cuánto son {a} {o} {b}?", "{a} {o} {b}", "{a} {s} {b}"),
    *("{a}{s}{b}", "Dime cuánto es {a} {o} {b}", "¿Sabes cuánto es {a} {o} {b}?", "{a}{s}{b}=", "Calcula {a} {o} {b}"),
    *("¿{a} {o} {b}?", "¿Cuánto da {a} {o} {b}?", "cuánto es {a}{s}{b}"),
)
ADDITION_FORMS = (*SUM_FORMS, "¿Cuánto suma {a} {o} {b}?", "Suma {a} y {b}", "¿Cuánto son {a} y {b}?")
SUM_REPLIES = ("Son {c}.", "Son {c}. ¿Otra?")  # the result first: the first tokens of a reply weigh most

UNKNOWN_REPLIES = (
    "Eso no lo sé, y prefiero no inventarlo.",
    "No puedo saberlo: solo conozco lo que me escribes aquí.",
)
NOT_TOLD_REPLIES = ("No lo sé, todavía no me lo has dicho.", "Aún no me lo has contado. ¿Me lo dices?")


@cache
def words() -> dict[str, list[str]]:
    """The lists of names: "people", "cities", "pets"."""
    names: dict[str, list[str]] = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
    return names


@cache
def spellings() -> tuple[str, ...]:
    """Common Spanish words, whose beginnings and endings make names out of any piece of the vocabulary."""
    text = " ".join(row["text"] for row in records(FOLDER, "stories"))
    return tuple(sorted({word for word in re.findall(r"[a-zñáéíóú]+", text.lower()) if len(word) >= 4}))


def blended(rng: Random) -> str:
    """The beginning of one word and the end of another: "casi" + "falda" -> "Casilda"."""
    front, back = rng.choice(spellings()), rng.choice(spellings())
    return front[: rng.randint(2, 5)] + back[-rng.randint(2, 4) :]


def syllabic(rng: Random, syllables: int) -> str:
    """A word of that many syllables: "trañue", "lozian"."""
    onsets = [ONSETS if i or rng.random() < 0.8 else [""] for i in range(syllables)]
    return "".join(rng.choice(onset) + rng.choice(VOWELS) for onset in onsets) + rng.choice(CODAS)


def invented(rng: Random, syllables: int) -> str:
    """A name that no list holds, never one of those kept for measuring."""
    while True:
        word = syllabic(rng, syllables) if rng.random() < 0.5 else blended(rng)
        if len(word) >= 3 and word.capitalize() not in HELD_OUT_NAMES:
            return word.capitalize()


def person(rng: Random) -> str:
    return invented(rng, rng.randint(2, 3)) if rng.random() < 0.6 else rng.choice(words()["people"])


def place(rng: Random) -> str:
    draw = rng.random()
    if draw < 0.1:
        return "Villa" + invented(rng, 2).lower()
    return invented(rng, 3) if draw < 0.4 else rng.choice(words()["cities"])


def pet(rng: Random) -> str:
    return invented(rng, 2) if rng.random() < 0.5 else rng.choice(words()["pets"])


@dataclass(frozen=True)
class Fact:
    """One kind of thing a user tells about himself: how he says it, what is answered, how he asks for it later."""

    kind: str
    values: Literal["person", "place", "pet"] | tuple[str, ...]
    says: tuple[str, ...]
    heard: tuple[str, ...]
    asks: tuple[str, ...]
    recalls: tuple[str, ...]
    corrects: tuple[str, ...] = ()  # how he puts it right after having said something else
    corrected: tuple[str, ...] = ()

    def value(self, rng: Random) -> str:
        if isinstance(self.values, tuple):
            return rng.choice(self.values)
        return {"person": person, "place": place, "pet": pet}[self.values](rng)


def trained(forms: list[str]) -> tuple[str, ...]:
    """The split holds for the drills' own ways of asking too."""
    return tuple(form for form in forms if not held_out(form))


@cache
def facts() -> dict[str, Fact]:
    """kind -> Fact, from `facts*.jsonl`, without the held-out ways of saying and asking; a later line with the name of
    a known fact adds to it.
    """
    found: dict[str, Fact] = {}
    for row in records(FOLDER, "facts"):
        known = found.get(row["fact"])
        if known is None:
            values = row["value"] if row["value"] in ("person", "place", "pet") else tuple(row["value"])
            known = Fact(row["fact"], values, (), (), (), ())
        found[row["fact"]] = replace(
            known,
            says=known.says + trained(row.get("says", [])),
            heard=known.heard + tuple(row.get("heard", [])),
            asks=known.asks + trained(row.get("asks", [])),
            recalls=known.recalls + tuple(row.get("recalls", [])),
            corrects=known.corrects + trained(row.get("corrects", [])),
            corrected=known.corrected + tuple(row.get("corrected", [])),
        )
    return found


@dataclass(frozen=True)
class Told:
    """A fact with its value, as told in one dialogue."""

    fact: Fact
    value: str

    def statement(self, rng: Random) -> tuple[str, str]:
        asked = said(rng, self.fact.says, {"x": self.value})
        keep = self.value if rng.random() < 0.92 else ""
        return noisy(rng, asked, 0.4, keep), fill(rng.choice(self.fact.heard), {"x": self.value})

    def correction(self, rng: Random) -> tuple[str, str]:
        """The user puts a fact right; what holds from here on is this value."""
        asked = said(rng, self.fact.corrects, {"x": self.value})
        return noisy(rng, asked, 0.4, self.value), fill(rng.choice(self.fact.corrected), {"x": self.value})

    def recall(self, rng: Random) -> tuple[str, str]:
        return noisy(rng, said(rng, self.fact.asks, {}), 0.4), fill(rng.choice(self.fact.recalls), {"x": self.value})


def told(rng: Random) -> Told:
    """A random fact: the user's name in nearly half of the cases, his city or somebody's name in most others."""
    draw = rng.random()
    known = facts()
    if draw < 0.45:
        fact = known["nombre"]
    elif draw < 0.57:
        fact = known["ciudad"]
    else:
        fact = rng.choice(list(known.values()))
    return Told(fact, fact.value(rng))


OPERATIONS = {"+": ("más", "+"), "-": ("menos", "-"), "x": ("por", "x"), "*": ("por", "*")}


@cache
def problems() -> dict[str, tuple[str, ...]]:
    """Sums told in words, from `sums*.json`: operation -> trained forms with {a} and {b}; empty without such a file."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(FOLDER.glob("sums*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))
        told_in_words = [(row["op"], row["user"]) for row in rows["word_problems"]]
        plain = [(operation, form) for operation, forms in rows["plain"].items() for form in forms]
        for operation, form in (*told_in_words, *plain):
            found[operation] = found.get(operation, ()) + trained([form])
    return found


def operands(rng: Random, operation: str) -> tuple[int, int, int]:
    """a, b and the result; small numbers are the most frequent, and nothing goes below zero."""
    if operation == "+":
        top = 10 if rng.random() < 0.6 else 20
        a, b = rng.randint(0, top), rng.randint(0, top)
        return a, b, a + b
    if operation == "-":
        a = rng.randint(1, 10 if rng.random() < 0.5 else 20)
        b = rng.randint(0, a)
        return a, b, a - b
    if operation == "double":
        a = rng.randint(1, 20)
        return a, 2, 2 * a
    if operation == "half":
        a = rng.randint(1, 20)
        return 2 * a, 2, a
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    return a, b, a * b


def calculation(rng: Random) -> tuple[str, str]:
    """An exercise in figures or words, or told as a little story, and its result."""
    stories = problems()
    operation = rng.choices(("+", "-", "x", "double", "half"), (50, 27, 17, 3, 3))[0]
    if operation not in stories and operation not in OPERATIONS:
        operation = "+"
    a, b, result = operands(rng, operation)
    if operation not in OPERATIONS or (operation in stories and rng.random() < 0.45):
        asked = said(rng, stories[operation], {"a": str(a), "b": str(b)})
    else:
        word, sign = OPERATIONS["*" if operation == "x" and rng.random() < 0.5 else operation]
        form = rng.choice(ADDITION_FORMS if operation == "+" else SUM_FORMS)
        spelled = rng.random() < 0.2 and "{s}" not in form and max(a, b) <= 20
        asked = form.format(a=WORDS[a] if spelled else a, b=WORDS[b] if spelled else b, o=word, s=sign)
    return noisy(rng, asked, 0.3), rng.choice(SUM_REPLIES).format(c=result)


@cache
def unknowable_questions() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(question with {x}, values of x) from `unknowable*.jsonl`, without the held-out questions."""
    rows = [row for row in records(FOLDER, "unknowable") if not held_out(row["user"])]
    return tuple((row["user"], tuple(row["values"])) for row in rows)


def unknowable(rng: Random) -> tuple[str, str]:
    """A question nobody could answer from here, or one about a fact that the user has not told."""
    if rng.random() < 0.3:
        fact = rng.choice(list(facts().values()))
        return noisy(rng, said(rng, fact.asks, {}), 0.4), rng.choice(NOT_TOLD_REPLIES)
    form, values = rng.choice(unknowable_questions())
    return noisy(rng, said(rng, [form], {"x": rng.choice(values)}), 0.5), rng.choice(UNKNOWN_REPLIES)
