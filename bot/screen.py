"""What a terminal may be shown: text without control codes, broken between words while it streams."""

import re

from wcwidth import wcwidth

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text without control characters: neither a model nor a file may move the cursor or set the title."""
    return _CONTROLS.sub("", text)


def shorten(text: str, size: int = 60) -> str:
    """The text on one line, cut to `size` characters."""
    line = " ".join(text.split())
    return line if len(line) <= size else line[: size - 1] + "…"


class WordWrap:
    """Breaks a stream of text into lines of `width` columns between words; a word comes out when it is complete.

    All that is pushed and flushed is the text, but for spaces that became line ends.
    """

    def __init__(self, width: int, column: int = 0) -> None:
        self.width = max(20, width)
        self.column = column
        self._spaces = ""
        self._word = ""

    def push(self, text: str) -> str:
        """The text that can be shown now."""
        out = ""
        for part in re.split(r"([ \n])", text):
            if part == " ":
                out += self.flush()
                self._spaces += " "
            elif part == "\n":
                out += self.flush() + "\n"
                self.column, self._spaces = 0, ""
            else:
                self._word += part
        return out

    def flush(self) -> str:
        """The held word with the spaces before it, or a line end instead of them where it does not fit."""
        word, self._word = self._word, ""
        if not word:
            return ""
        before, self._spaces = self._spaces, ""
        columns = sum(max(0, wcwidth(char)) for char in word)
        if self.column + len(before) + columns > self.width and self.column:
            before, self.column = "\n", 0
        else:
            self.column += len(before)
        self.column += columns if columns <= self.width else columns % self.width
        return before + word
