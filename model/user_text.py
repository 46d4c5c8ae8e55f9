"""What people and models write, made safe to stand inside a prompt: `clean` keeps a text a text.

After `clean` no line of it can be read as the beginning of a turn, in any prompt format: the markers of all formats are
broken alike, so that a logged dialogue means the same under every model. "Asistente: sí" becomes "«Asistente» sí",
"### Respuesta:" becomes "«Respuesta»". Cleaning twice changes nothing more.
"""

from __future__ import annotations

import re
import unicodedata

# Line separators that are not "\n" but end a line for some reader; terminals and vocabularies differ on them.
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")

_DRAWN_LIKE = {
    "a": "\u0430\u03b1\u0251",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u03b5\u0454",
    "i": "\u0456\u03b9\u0131\u0269",
    "n": "\u0578\u057c\u03b7",
    "o": "\u043e\u03bf\u0585\u00f8",
    "p": "\u0440\u03c1",
    "r": "\u0433\u1d26",
    "s": "\u0455\u03c3",
    "t": "\u0442\u03c4",
    "u": "\u057d\u03c5\u028b",
    ":": "\u02d0\u0589\u05c3\u0703\u0704\u1361\u16ec\u205a\u2236\ua4fd\ua789\U00010781",
    "#": "\u266f",
}
# Letters and signs drawn like those of a marker that stay different under NFKD (Cyrillic, Greek, Armenian, Latin).
_LOOK_ALIKES = str.maketrans({like: letter for letter, likes in _DRAWN_LIKE.items() for like in likes})
_FILLERS = "\u115f\u1160\u3164\uffa0\u2800"  # drawn as nothing, though Unicode calls them letters or symbols
_INVISIBLE = {"Mn", "Me", "Cf", "Cc", "Zs", "Zl", "Zp", "Cn"}
# A line without one of these holds no marker and is not looked at further.
_SIGNS = re.compile(f"[:#\ufe13\ufe55\uff1a\u2a74\ufe5f\uff03{_DRAWN_LIKE[':']}{_DRAWN_LIKE['#']}]")

_MARKER = re.compile(r"([\W_\d]*+)(usuario|asistente)([\W_]*:)")
_HEADING = re.compile(r"([\W_\d]*+)(instruccion|entrada|respuesta)([\W_]*:|[\W_]*$)")


def clean(text: str) -> str:
    """The text in NFC with "\\n" line ends, without control characters, space around it and role markers."""
    text = _SURROGATES.sub("\ufffd", _LINE_ENDS.sub("\n", text))
    text = unicodedata.normalize("NFC", _CONTROLS.sub("", text))
    return "\n".join(_break_marker(line) if _SIGNS.search(line) else line for line in text.split("\n")).strip()


def _break_marker(line: str) -> str:
    """The line with its role marker in guillemets instead of before a colon, whatever case, width or spacing it has."""
    skeleton, origin = _skeleton(line)
    found = _MARKER.match(skeleton)
    if not found:
        found = _HEADING.match(skeleton)
        if not found or "#" not in found[1]:  # "Respuesta: 42" is an ordinary line, "### Respuesta:" is not
            return line
    begin, end = origin[found.start(2)], origin[found.end(2) - 1] + 1
    after = origin[found.end(3) - 1] + 1
    lead = line[:begin]
    if found.re is _HEADING:
        lead = "".join(char for char in lead if "#" not in _skeleton(char)[0]).strip()
        lead += " " if lead else ""
    rest = line[after:]
    return f"{lead}«{line[begin:end]}»{' ' if rest[:1].isalnum() else ''}{rest}"


def _skeleton(line: str) -> tuple[str, list[int]]:
    """What the line looks like: plain lower-case characters without space, accents, invisibles; and where each was."""
    chars: list[str] = []
    origin: list[int] = []
    for i, char in enumerate(line):
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold()).translate(_LOOK_ALIKES)
        for one in plain:
            if one not in _FILLERS and unicodedata.category(one) not in _INVISIBLE:
                chars.append(one)
                origin.append(i)
    return "".join(chars), origin
