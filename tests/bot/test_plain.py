"""Replies for scripts: one line for one line, nothing else."""

import io
from collections.abc import Iterator

from bot.plain import once, pipe


class Echo:
    """Says given pieces; stands for a Talk, of which only `say` is used here."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.heard: list[str] = []

    def say(self, text: str) -> Iterator[str]:
        self.heard.append(text)
        return iter(self.pieces)


def test_line_n_of_the_output_answers_line_n_of_the_input() -> None:
    out, talk = io.StringIO(), Echo("uno\n", "dos ", "tres\n\r\u2028cuatro")
    pipe(talk, ["a\n", "\n", "  b  \n"], out)  # type: ignore[arg-type]
    assert len(out.getvalue().splitlines()) == 3
    assert out.getvalue().split("\n")[1] == ""
    assert out.getvalue().split("\n")[0].split() == ["uno", "dos", "tres", "cuatro"]
    assert talk.heard == ["a", "b"]


def test_once_prints_the_reply_as_it_is() -> None:
    out = io.StringIO()
    once(Echo("uno\n", "dos"), "a", out)  # type: ignore[arg-type]
    assert out.getvalue() == "uno\ndos\n"
