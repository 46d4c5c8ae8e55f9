"""What the log asks of a database, SQLite or PostgreSQL: a transaction of work, and erased bytes driven out of files.

Always: `write` returns after the commit is on disk; a failure is a LogError of one line, without a value of any row, or
an UnstorableError, which no retry mends.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError

from training.errors import LogError, UnstorableError

T = TypeVar("T")
Work = Callable[[Connection], T]


class Database(ABC):
    """One database of the log; thread-safe."""

    name: str  # for messages, without a password
    recovered_from: Path | None = None  # the damaged file that was set aside, if that happened

    @abstractmethod
    def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction of its own; it may be run twice if the first one met a damaged file."""

    @abstractmethod
    def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent state; it must not write."""

    @abstractmethod
    def compact(self) -> None:
        """Drive the bytes of erased rows out of the files. Raises LogCompactionError if that has to wait."""

    def tidy(self) -> None:  # noqa: B027
        """The cheap part of `compact`, where there is one; what has to wait, waits."""

    def drop_set_aside(self, older_than: datetime) -> None:  # noqa: B027
        """Delete damaged files that were set aside before that: nothing in them can be erased row by row."""

    @abstractmethod
    def size_bytes(self) -> int: ...

    @abstractmethod
    def close(self) -> None: ...


def parse_url(url: str) -> URL:
    """The database that DATABASE_URL names. Raises LogError, which shows no more of the URL than its scheme."""
    scheme, separator, _ = url.partition("://")
    expected = "expected sqlite:////a/path/dialogues.db or postgresql://user:password@host/name; see .env.example"
    if not separator:
        raise LogError(f"DATABASE_URL has no ://: {expected}")
    kind, _, driver = scheme.partition("+")
    if kind not in ("sqlite", "postgresql", "postgres") or driver not in ("", "pysqlite", "psycopg"):
        raise LogError(f"DATABASE_URL begins with {scheme[:20]!r}: {expected}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise LogError(f"DATABASE_URL, {scheme}://..., cannot be read: {expected}") from None
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:") or parsed.host:
            raise LogError(f"DATABASE_URL names no file: {expected}")
        return parsed.set(drivername="sqlite")
    return parsed.set(drivername="postgresql+psycopg")


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file, whatever is in its name."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


@contextmanager
def refusing_unstorable(name: str) -> Iterator[None]:
    """Raises UnstorableError for a number that the database `name` cannot hold: each driver says it in its own way."""
    try:
        yield
    except (DataError, OverflowError):
        raise UnstorableError(f"{name}: a value is too large to be stored") from None


def reason(error: DBAPIError) -> str:
    """The first line of the driver's message: the next ones may quote a row."""
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
