"""The chat without a screen: one reply and out (`--once`), or one line of reply for each line of a pipe."""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from bot.screen import harmless
from bot.talk import Talk

_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # what some reader takes for the end of a line


def once(talk: Talk, text: str, out: TextIO | None = None) -> None:
    """Print the reply to `text` as it comes, and nothing else."""
    _print(talk.say(text), out or sys.stdout)


def pipe(talk: Talk, lines: Iterable[str], out: TextIO | None = None) -> None:
    """Answer line by line: line n of the output answers line n of the input, in one conversation.

    Line ends inside a reply become spaces; an empty line gets an empty line.
    """
    for line in lines:
        text = line.strip()
        _print(_one_line(talk.say(text)) if text else (), out or sys.stdout)


def _print(pieces: Iterable[str], out: TextIO) -> None:
    show = harmless if out.isatty() else str
    for piece in pieces:
        out.write(show(piece))
        out.flush()
    out.write("\n")
    out.flush()


def _one_line(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        yield _LINE_ENDS.sub(" ", piece)
