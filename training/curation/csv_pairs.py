"""CSV of prompts and completions: a header with these columns, perhaps `user` and `system`; comma, semicolon or tab."""

import csv
from collections.abc import Iterator
from pathlib import Path

from training.curation.files import MAX_LINE_BYTES, FileDialogue, FileTurn, lines, person
from training.errors import DataError
from training.examples import user_key

_DELIMITERS = ",;\t"
_NEEDED = {"prompt", "completion"}
_KNOWN = (*sorted(_NEEDED), "user", "system")


def is_header(line: str) -> bool:
    """True if a line names the columns of such a file."""
    return _delimiter(line) is not None


def read_csv(path: Path) -> Iterator[FileDialogue]:
    """One example a row. Raises DataError naming the line of a faulty row."""
    rows = _rows(path)
    _, header = next(rows)
    names = [name.strip().lower() for name in header]
    unknown = [name for name in names if name not in _KNOWN]
    if unknown or len(set(names)) < len(names):
        what = f"the column {unknown[0][:40]!r} is not known" if unknown else "a column is there twice"
        raise DataError(f"{path}, line 1: {what}; expected {', '.join(_KNOWN)}")
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(names):
            raise DataError(
                f"{path}, line {number}: {len(row)} fields, the header has {len(names)}; put text with commas, quotes "
                'or line ends into double quotes, and write a double quote in it as ""'
            )
        fields = dict(zip(names, row, strict=True))
        user = user_key("file", fields["user"].strip()) if fields.get("user", "").strip() else person(path, number)
        turn = FileTurn(fields["prompt"], fields["completion"], user)
        yield FileDialogue(path.name, fields.get("system", ""), (turn,))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of each row."""
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        begun = False
        for number, text in lines(path):  # noqa: B007
            if begun or text.strip():  # lines before the header may be blank
                begun = True
                yield text

    delimiter = next(found for _, text in lines(path) if (found := _delimiter(text)))
    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    csv.field_size_limit(MAX_LINE_BYTES)
    begin = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {begin}: the row that begins here is no CSV ({error})") from None
        yield begin, row
        begin = number + 1


def _delimiter(line: str) -> str | None:
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        if {name.strip().lower() for name in names} >= _NEEDED:
            return delimiter
    return None
