"""A lock between processes that says who holds it. The kernel lets it go with its process, also after kill -9."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from training.errors import RegistryBusy

_POLL_S = 0.02


@contextlib.contextmanager
def hold(path: Path, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` for `what`. Raises RegistryBusy naming who holds it, if that lasts over `wait_s`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    until = time.monotonic() + wait_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _take(descriptor):
            if time.monotonic() >= until:
                raise RegistryBusy(f"{path.parent} is in use: {_holder(path)}; wait for it to end")
            time.sleep(_POLL_S)
        _sign(descriptor, what)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int, what: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(fields).encode(), 0)


def _holder(path: Path) -> str:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return f"{fields['what']} by process {fields['pid']} on {fields['host']} since {fields['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"  # which is just signing
