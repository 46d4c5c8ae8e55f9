"""Messages about danger and health get a fixed answer, by rule, whatever the model: a small one would make things up.

Phrases in the first person or about someone near, never single words: "me muero de risa", "me mata el calor" and
"¿qué es el suicidio?" are talk for the model.
"""

import re
import unicodedata

from bot import texts_es
from bot.safety_phrases import PHRASES, WORDS

ANSWERS: dict[str, str] = {
    "emergency": texts_es.EMERGENCY,
    "suicide": texts_es.SUICIDE,
    "suicide_of_other": texts_es.SUICIDE_OF_OTHER,
    "violence": texts_es.VIOLENCE,
    "harm_to_others": texts_es.HARM_TO_OTHERS,
    "health": texts_es.HEALTH,
    "health_question": texts_es.HEALTH_QUESTION,
}

_SPELLINGS = [
    (re.compile(r"\b(?:kiero|qiero|kero|qero)\b"), "quiero"),
    (re.compile(r"\bsuisid"), "suicid"),
    (re.compile(r"\b(?:q|k|ke)\b"), "que"),
    (re.compile(r"\bm\b"), "me"),
    (re.compile(r"\b(?:acer|aser)me\b"), "hacerme"),
]
_LONG_LETTERS = re.compile(r"([a-z])\1{2,}")
_BREAKS = re.compile(r"[.,;:!?¡¿\n()\"«»…—]+")
_OTHER = re.compile(r"[^a-z0-9 ]+")
_NAME = re.compile(r"<(\w+)>")


def check(text: str) -> str | None:
    """The kind of answer that a message asks for, a key of ANSWERS, or None when the model may answer it."""
    lowered = text.lower()
    clauses = {plain(clause) for clause in (*_BREAKS.split(lowered), lowered)}  # `$` is the end of a clause
    for kind, pattern in _RULES:
        if any(pattern.search(clause) for clause in clauses):
            return kind
    return None


def answer(text: str) -> str | None:
    """The fixed Spanish answer to a message about danger or health, else None."""
    kind = check(text)
    return None if kind is None else ANSWERS[kind]


def plain(text: str) -> str:
    """Lower case without accents and signs, single spaces, common misspellings of the phrases looked for put right."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(char))
    bare = " ".join(_OTHER.sub(" ", bare).split())
    bare = _LONG_LETTERS.sub(r"\1", bare)
    for pattern, right in _SPELLINGS:
        bare = pattern.sub(right, bare)
    return bare


def _compile(phrase: str) -> re.Pattern[str]:
    while _NAME.search(phrase):
        phrase = _NAME.sub(lambda found: WORDS[found[1]], phrase)
    return re.compile(rf"\b(?:{phrase})")


_RULES = [(kind, _compile("|".join(f"(?:{phrase})" for phrase in phrases))) for kind, phrases in PHRASES.items()]
