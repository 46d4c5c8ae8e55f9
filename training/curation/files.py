"""Lines of files of examples, checked and numbered, and what is read out of them.

Always: a file is understood whole or refused with the number of the line; no line is held that is longer than
MAX_LINE_BYTES.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError
from training.schema import clean

END = "<|endoftext|>"
MAX_LINE_BYTES = 2**20


@dataclass(frozen=True)
class FileTurn:
    """A message and its reply; `user` is the key of who is asked, the correction is a better reply."""

    text: str
    reply: str
    user: str
    rating: int = 0
    correction: str | None = None


@dataclass(frozen=True)
class FileDialogue:
    """One example of a file: turns of one or more people, or a document of the person `user`."""

    source: str
    system: str = ""
    turns: tuple[FileTurn, ...] = ()
    document: str | None = None
    user: str = ""


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its line end) of each line, without NUL and lone surrogates.

    Raises DataError if the file cannot be read, is not UTF-8, or a line is too long.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no file: give the path of one with examples")
        with path.open("rb") as file:
            number = 0
            while data := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(data) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{path}, line {number} has more than {MAX_LINE_BYTES:,} bytes: cut the example into several"
                    )
                yield number, clean(_decode(path, number, data))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): give the path of a file") from error


def person(path: Path, number: int) -> str:
    """The key of an example whose file names nobody: every line is a person's own."""
    return f"file:{path.name}:{number}"


def _decode(path: Path, number: int, data: bytes) -> str:
    if number == 1 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}, line 1 is UTF-16 text: save the file as UTF-8")
    try:
        return data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number} is not UTF-8 text (byte 0x{data[error.start]:02X} at {error.start + 1}): "
            "save the file as UTF-8"
        ) from None
