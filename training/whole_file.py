"""A file that is replaced whole or not at all, whatever is killed in between."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write aside, sync, rename, sync the folder; readable by the owner only. When it returns it is on disk."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
