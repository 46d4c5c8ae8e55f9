"""What happens to a log's SQLite file that is damaged: it is set aside under a name with the date, and dropped in time.

Always: a file is renamed, not changed, and one that was never SQLite's is left where it is.
"""

import glob
import logging
import os
import sqlite3
from datetime import datetime
from pathlib import Path

from training.errors import LogError
from training.schema import now

logger = logging.getLogger(__name__)

_MAGIC = b"SQLite format 3\0"
_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_damage(error: BaseException | None) -> bool:
    """True if the driver's error says that the file itself is wrong."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CODES


def refuse_a_foreign_file(path: Path) -> None:
    """Whole pages without SQLite's header may be a log whose first page is lost; anything else is not ours."""
    with path.open("rb") as file:
        ours = file.read(len(_MAGIC)) == _MAGIC
    if not ours and path.stat().st_size % 4096:
        raise LogError(f"{path} is not an SQLite file: name another in DATABASE_URL, or move it away")


def set_aside(path: Path, why: str) -> Path:
    """Rename the file and its write-ahead log -> where it is now. Raises LogError."""
    aside = beside(path, f".damaged-{now():%Y%m%dT%H%M%SZ}-{os.getpid()}")
    try:
        # The write-ahead log first: beside a new file it would be played into that one.
        if beside(path, "-wal").exists():
            beside(path, "-wal").rename(beside(aside, "-wal"))
        beside(path, "-shm").unlink(missing_ok=True)
        path.rename(aside)
    except OSError as error:
        raise LogError(f"{path} is damaged ({why}) and cannot be set aside: {error.strerror}") from None
    logger.error("%s is damaged (%s): set aside as %s, a new log is begun", path, why, aside.name)
    return aside


def drop(path: Path, older_than: datetime) -> None:
    """Delete what was set aside before that: nothing in it can be erased row by row."""
    for found in path.parent.glob(f"{glob.escape(path.name)}.damaged-*"):
        if found.stat().st_mtime < older_than.timestamp():
            found.unlink()
            logger.warning("%s, a damaged log that was set aside, is deleted so that its text is gone", found.name)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
