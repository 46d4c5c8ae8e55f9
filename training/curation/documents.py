"""A text file of raw examples, <|endoftext|> after every one of them, as GPT-J was tuned on from the first."""

from collections.abc import Iterator
from pathlib import Path

from training.curation.files import END, FileDialogue, lines, person
from training.errors import DataError

MAX_DOCUMENT_BYTES = 2**20


def is_text(path: Path) -> bool:
    """True if there is an end marker in the file."""
    return any(END in text for _, text in lines(path))


def read_text(path: Path) -> Iterator[FileDialogue]:
    """What stands between the markers; what is blank is no example. Raises DataError naming the line."""
    begun, size_bytes = 1, 0
    parts: list[str] = []
    for number, text in lines(path):
        *ended, rest = text.split(END)
        for piece in ended:
            yield from _document(path, begun, "".join((*parts, piece)))
            begun, parts, size_bytes = number, [], 0
        if not parts and not rest.strip():
            begun = number + 1
            continue
        parts.append(rest)
        size_bytes += len(rest.encode())
        if size_bytes > MAX_DOCUMENT_BYTES:
            raise DataError(
                f"{path}, line {begun}: the example that begins here has more than {MAX_DOCUMENT_BYTES:,} bytes: "
                f"put {END} after every example"
            )
    yield from _document(path, begun, "".join(parts))


def _document(path: Path, number: int, text: str) -> Iterator[FileDialogue]:
    if text.strip():
        yield FileDialogue(path.name, document=text.strip("\n"), user=person(path, number))
