"""A folder that appears whole or not at all: written beside its place, synced, renamed.

What a killed writer leaves is one hidden `.NAME.partial` folder, which nothing reads; the next writer of the same
folder takes it over. The kernel's lock on it (released with the process) keeps two writers apart.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from model.errors import CheckpointError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SPARE_BYTES = 2**20  # directory entries, rounding up to blocks


@contextmanager
def writing(target: Path, needed_bytes: int, may_replace: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield an empty folder to write into; on a clean exit it becomes `target`, on an error it is gone.

    A non-empty `target` is refused, unless `may_replace` is given: that raises when the folder is not ours to replace.
    Raises CheckpointError when the disk is full (before writing where that is known) or the place cannot be written.
    """
    target = target.expanduser().resolve()
    _check_target(target, may_replace)
    made = [parent for parent in target.parents if not parent.exists()]
    partial = target.parent / f".{target.name}.partial"
    lock = -1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _recover(target)
        lock = _take(partial, target)
        free = shutil.disk_usage(partial).free
        if free < needed_bytes + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, "no space")
        yield partial
        _sync(partial)
        _put_in_place(partial, target)
    except BaseException as error:
        if lock >= 0:
            shutil.rmtree(partial, ignore_errors=True)
        message = _explain(error, target, needed_bytes) if isinstance(error, OSError) else None
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        if message is not None:
            raise CheckpointError(message) from error
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def sha256(path: Path) -> str:
    """Hex digest of a file, read through the page cache (no memory of its own)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> Mapping[Path, str]:
    """path -> sha256 of each, several at a time (hashing releases the interpreter's lock)."""
    paths = list(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(sha256, paths), strict=True))


def _check_target(target: Path, may_replace: Callable[[Path], None] | None) -> None:
    there = next(path for path in (target, *target.parents) if path.exists())
    if not there.is_dir():
        raise CheckpointError(f"cannot write {target}: {there} is a file, expected a folder")
    if target.is_dir() and any(target.iterdir()):
        if may_replace is None:
            raise CheckpointError(f"{target} exists and is not empty; choose another folder or remove it")
        may_replace(target)


def _take(partial: Path, target: Path) -> int:
    """Make or take over the partial folder, emptied; returns the descriptor that holds its lock."""
    partial.mkdir(exist_ok=True)
    lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another writer may have renamed this very folder into place between our open and our lock.
        if os.fstat(lock).st_ino != partial.stat().st_ino:
            raise BlockingIOError
        for left in partial.iterdir():
            left.unlink()
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        raise CheckpointError(f"another process is writing {target}; wait for it to end") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _recover(target: Path) -> None:
    """Undo or finish a replacement that was killed between its two renames."""
    replaced = target.parent / f".{target.name}.replaced"
    if replaced.exists():
        if target.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(target)


def _put_in_place(partial: Path, target: Path) -> None:
    replaced = target.parent / f".{target.name}.replaced"
    if target.is_dir() and any(target.iterdir()):
        target.rename(replaced)
    try:
        partial.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    _sync_path(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        _sync_path(path)
    _sync_path(folder)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, target: Path, needed_bytes: int) -> str:
    if error.errno not in _FULL:
        return f"cannot write {target}: {error.strerror or error}"
    place = next(parent for parent in target.parents if parent.exists())
    free = shutil.disk_usage(place).free
    return (
        f"cannot write {target}: the disk is full: {needed_bytes} bytes are needed, {free} are free; "
        "free some space or choose another folder"
    )
