"""Which replies are not worth learning: each filter looks at one message and its reply, and says its name.

Always: what a filter refuses stays in the dialogue as context, without loss on it. The language is judged by py3langid
(Naive Bayes over byte n-grams, offline), and only what is surely another language is refused: of 2,945 Spanish turns
none was, at 20 letters or more; shorter ones say too little and are let through.
"""

import functools
import re
from collections.abc import Callable
from itertools import groupby
from typing import Any

from model.conversation import MAX_TEXT_BYTES

_MIN_LETTERS = 20  # to tell a language by
_SURE = 0.6  # probability of another language
_HARDLY = 0.1  # of Spanish beside it
_KIN = ("ext", "an")  # Extremaduran, Aragonese: what a line of colloquial Spanish is easily taken for
_READ = 4000  # characters are enough
_LOOP_CHARS = 30  # what a loop covers at least; laughter may be longer
_LAUGHTER = re.compile(r"(?:[jh][aeiou]j?|\W)+", re.IGNORECASE)
_MAX_PERIOD = 60  # words of what is said again
_LONG_WORD = 80
_MAX_WORD_PERIOD = 16  # characters of what is said again within a word
_MANY_WORDS = 40  # from here on a reply that says little new is a loop too: its numbering may change
_LITTLE_NEW = 0.5  # different words in threes, of all


def too_short(text: str, reply: str, min_chars: int) -> bool:
    """Fewer letters and digits in both than `min_chars`, or none in the reply."""
    return not any(map(str.isalnum, reply)) or sum(map(str.isalnum, text + reply)) < min_chars


def too_long(text: str) -> bool:
    """A message that no prompt takes."""
    return len(text.encode("utf-8", errors="replace")) > MAX_TEXT_BYTES


def is_loop(text: str) -> bool:
    """True if a reply got stuck: the same words three times in a row (few ones more often), or within a long word."""
    words = text.casefold().split()
    if _repeats(words, " ", _MAX_PERIOD, _LOOP_CHARS) or _says_little(words):
        return True
    return any(_repeats(list(word), "", _MAX_WORD_PERIOD, _LONG_WORD) for word in words if len(word) >= _LONG_WORD)


def not_spanish(text: str) -> bool:
    """True if a text is surely in another language."""
    text = text[:_READ]
    if sum(map(str.isalpha, text)) < _MIN_LETTERS:
        return False
    (best, probability), *_ = ranks = _identifier().rank(text)
    return best != "es" and probability > _SURE and dict(ranks)["es"] < _HARDLY


def _repeats(parts: list[str], joint: str, max_period: int, min_chars: int) -> bool:
    for period in range(1, min(max_period, len(parts) // 3) + 1):
        same = (parts[i] == parts[i - period] for i in range(period, len(parts)))
        end = period
        for said_again, run in groupby(same):
            begin, end = end, end + len(list(run))
            if not said_again or end - begin < max(2 * period, 4):  # three times, and at least five parts
                continue
            repeated = joint.join(parts[begin - period : end])
            if len(repeated) >= min_chars and not _LAUGHTER.fullmatch(repeated):
                return True
    return False


def _says_little(words: list[str]) -> bool:
    threes = list(zip(words, words[1:], words[2:], strict=False))
    return len(words) >= _MANY_WORDS and len(set(threes)) < _LITTLE_NEW * len(threes)


@functools.cache
def _identifier() -> Any:
    """Read once, in 0.7 s; the languages that Spanish is taken for count as Spanish."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([name for name in identifier.labels if name not in _KIN])
    return identifier


def refusal(text: str, reply: str, min_chars: int, only_spanish: bool) -> str | None:
    """The name of the first filter that refuses a turn, None if none does."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("too_short", lambda: too_short(text, reply, min_chars)),
        ("too_long", lambda: too_long(text) or too_long(reply)),
        ("loops", lambda: is_loop(reply)),
        ("not_spanish", lambda: only_spanish and not_spanish(f"{text}\n{reply}")),
    )
    return next((name for name, check in checks if check()), None)
