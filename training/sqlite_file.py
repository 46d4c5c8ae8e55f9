"""The log in one SQLite file: WAL, synchronous FULL, secure_delete, one connection behind one lock.

Always: a commit that returned survives a crash of the process and of the machine. A damaged file is set aside under a
name with the date and a new one begun; a file that is not SQLite's at all is refused. Other processes may use the file
at the same time: they wait for each other, and they follow when one of them begins a new file.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from training import damaged
from training.database import Database, T, Work, reason, refusing_unstorable
from training.errors import LogCompactionError, LogError
from training.migrations import migrate

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 10.0
_PRAGMAS = (
    "synchronous = FULL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "wal_autocheckpoint = 100",  # pages; the default lets old versions of them fill 4 MB, on a disk that may be full
)
# Closing a file drops all locks that this process has on it, SQLite's too: only one that is new may be opened here.
_CREATING = threading.Lock()


class SqliteFile(Database):
    """The log's file, opened and migrated. Raises LogError."""

    def __init__(self, url: URL, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        assert url.database is not None
        self.path = Path(url.database).expanduser().resolve()  # side files lie beside the real one, not beside a link
        self.name = str(self.path)
        self.recovered_from = None
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.Lock()
        self._begin = "BEGIN"
        self._connection: Connection | None = None
        self._file: tuple[int, int] | None = None
        with self._lock:
            self._open_or_replace()

    def write(self, work: Work[T]) -> T:
        return self._run(work, "BEGIN IMMEDIATE")

    def read(self, work: Work[T]) -> T:
        return self._run(work, "BEGIN")

    def compact(self) -> None:
        """Write the file anew, then empty the write-ahead log.

        secure_delete does not reach the copies that SQLite leaves when it moves rows between pages: with rows changed
        at random, 7 of 12 logs still held some of the deleted text; after VACUUM none did. The first statement finds
        out whether another process reads the file: each VACUUM meanwhile would add a whole copy to the log.
        """
        for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            if self._alone(statement, self._busy_timeout_s):
                raise LogCompactionError(
                    f"{self.name}: the rows are erased, but another process reads the file and keeps their bytes in "
                    "its write-ahead log: end it, or ask again later"
                )

    def tidy(self) -> None:
        try:
            self._alone("PRAGMA wal_checkpoint(TRUNCATE)", 0)
        except LogError as error:
            logger.info("the write-ahead log waits to be emptied: %s", error)

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.path, damaged.beside(self.path, "-wal")) if path.exists())

    def drop_set_aside(self, older_than: datetime) -> None:
        damaged.drop(self.path, older_than)

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    # Transactions

    def _run(self, work: Work[T], begin: str) -> T:
        with self._lock:
            try:
                return self._try(work, begin)
            except DBAPIError as error:
                if not damaged.is_damage(error.orig):
                    raise self._error(error) from error
                self._set_aside(reason(error))
            try:
                return self._try(work, begin)
            except DBAPIError as error:
                raise self._error(error) from error

    def _try(self, work: Work[T], begin: str) -> T:
        conn = self._follow()
        self._begin = begin
        with refusing_unstorable(self.name), conn.begin():
            return work(conn)

    def _alone(self, statement: str, busy_timeout_s: float) -> bool:
        """Run a statement that stands outside transactions -> whether it says that others kept it from its end."""
        with self._lock:
            try:
                cursor = self._follow().connection.cursor()
                try:
                    cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
                    row = cursor.execute(statement).fetchone()
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
                    cursor.close()
            except sqlite3.Error as error:
                if not damaged.is_damage(error):
                    raise LogCompactionError(
                        f"{self.name}: the rows are erased, but the file could not be rewritten ({error}): free some "
                        "space or end other processes that use it, and ask again"
                    ) from error
                self._set_aside(str(error))
                return False
            return row is not None and bool(row[0])

    # The file

    def _follow(self) -> Connection:
        """The connection, opened again if the file is no longer the one that was opened: a write would be lost."""
        if self._connection is not None and self._file != self._identity():
            logger.warning("%s was replaced by another file: opening that one", self.name)
            self._disconnect()
        if self._connection is None:
            self._open_or_replace()
        assert self._connection is not None
        return self._connection

    def _open_or_replace(self) -> None:
        try:
            try:
                self._open()
            except DBAPIError as error:
                if not damaged.is_damage(error.orig):
                    raise
                damaged.refuse_a_foreign_file(self.path)
                self._set_aside(reason(error))
                self._open()
        except DBAPIError as error:
            self._disconnect()
            raise self._error(error) from error
        except OSError as error:
            raise LogError(
                f"{self.name} cannot be opened ({error.strerror}): see DATABASE_URL in .env.example"
            ) from None
        except BaseException:
            self._disconnect()
            raise

    def _open(self) -> None:
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(mode=0o700, parents=True)
        with _CREATING, contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # its side files take over the mode
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            poolclass=NullPool,
            hide_parameters=True,  # they are people's text, and errors end in logs
            connect_args={"timeout": self._busy_timeout_s, "check_same_thread": False, "isolation_level": None},
        )
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", lambda conn: conn.exec_driver_sql(self._begin))
        self._file = self._identity()
        self._connection = engine.connect()
        self._begin = "BEGIN IMMEDIATE"
        with self._connection.begin():
            if migrate(self._connection, self.name) == 0 and self.recovered_from is not None:
                # Ids go on from the clock: a button under an old message must not name a new one.
                last = {"last": int(time.time())}
                self._connection.execute(text("INSERT INTO sqlite_sequence VALUES ('messages', :last)"), last)

    def _prepare(self, connection: sqlite3.Connection, _: Any) -> None:
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            if _wal(connection, self._busy_timeout_s) != "wal":
                raise LogError(f"{self.name} lies where SQLite cannot keep a write-ahead log: choose a local disk")
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                damage = sqlite3.DatabaseError(" ".join(problem.split())[:200])
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damage
        except BaseException:
            connection.close()
            raise

    def _set_aside(self, why: str) -> None:
        """Put the damaged file out of the way, unless another process has begun a new one already."""
        opened = self._file
        self._disconnect()
        if opened == self._identity():
            self.recovered_from = damaged.set_aside(self.path, why)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except DBAPIError as error:
                logger.warning("closing %s: %s", self.name, reason(error))

    def _error(self, error: DBAPIError) -> LogError:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return LogError(f"{self.name}: the disk is full, nothing was stored: free some space")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LogError(
                f"{self.name} was locked by another process for {self._busy_timeout_s:g} s: end it or retry"
            )
        return LogError(f"{self.name}: {reason(error)}")


def _wal(connection: sqlite3.Connection, timeout_s: float) -> str:
    """Switch to the write-ahead log; SQLite does not wait here when two processes open a new file at once."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
