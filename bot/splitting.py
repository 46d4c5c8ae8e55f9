"""Texts made fit for Telegram: nothing that it refuses, at most 4,096 code points a message, cut where a reader would.

Always: the parts joined are the text, but for space at the cuts; a part is never empty; no cut goes through a letter
with its accents, an emoji of several code points or a surrogate.
"""

import re
import unicodedata

MAX_LENGTH = 4096
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAKS = ("\n\n", "\n", ". ", "? ", "! ", "… ", "; ", ", ", " ")
_JOINER = "\u200d"


def tidy(text: str) -> str:
    """The text without what cannot be stored or sent: lone surrogates, NUL and other controls; space around it."""
    return _CONTROLS.sub("", _SURROGATES.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))).strip()


def is_visible(text: str) -> bool:
    """False for a text of nothing but space and invisible marks, which Telegram refuses as empty."""
    return any(unicodedata.category(char) not in ("Cf", "Cc", "Cn", "Zs", "Zl", "Zp", "Mn") for char in text)


def split(text: str, limit: int = MAX_LENGTH) -> list[str]:
    """Parts of at most `limit` code points: cut after a paragraph, else a line, a sentence, a word."""
    parts: list[str] = []
    rest = text.strip()
    while len(rest) > limit:
        end = _cut(rest, limit)
        part, rest = rest[:end].rstrip(), rest[end:].lstrip()
        if is_visible(part):
            parts.append(part)
    if is_visible(rest):
        parts.append(rest)
    return parts


def _cut(text: str, limit: int) -> int:
    """The best place to cut: the last strong break in the second half, else a weaker one, else any whole character."""
    for mark in _BREAKS:
        at = text.rfind(mark, limit // 2, limit)
        if at > 0:
            return at + len(mark)
    end = limit
    while end > limit // 2 and _belongs_to_the_one_before(text, end):
        end -= 1
    return end if end > limit // 2 else limit


def _belongs_to_the_one_before(text: str, i: int) -> bool:
    """True if a cut before text[i] would part what is drawn as one: marks, joiners, skin tones, halves of a flag."""
    char, before = text[i], text[i - 1]
    if (
        char == _JOINER
        or before == _JOINER
        or unicodedata.combining(char)
        or unicodedata.category(char) in ("Mn", "Me")
    ):
        return True
    if "\U0001f3fb" <= char <= "\U0001f3ff":
        return True
    if _is_flag_half(char) and _is_flag_half(before):
        first = i - 1
        while first > 0 and _is_flag_half(text[first - 1]):
            first -= 1
        return (i - first) % 2 == 1
    return False


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
