"""Whether somebody is being answered at this moment: front ends say so, and training waits between its steps.

Said by a lock that the kernel holds as long as a reply is in the making, so a killed bot leaves no trace, and by the
time of the file, which is that of the last reply's end. Whatever fails here, a reply is never kept from being made.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

FILE = "replying.lock"


class Activity:
    """What the front ends of one state folder do, over any number of processes."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir.expanduser() / FILE

    @contextlib.contextmanager
    def replying(self) -> Iterator[None]:
        """Around the making of a reply; any number at the same time."""
        file = self._open()
        try:
            if file is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_SH)
            yield
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    os.utime(file)
                os.close(file)

    def is_quiet(self, seconds: float) -> bool:
        """True if nobody is being answered, nor was in the last `seconds`."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:
            return True  # nobody ever was
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return time.time() - os.fstat(file).st_mtime >= seconds
        except BlockingIOError:
            return False
        finally:
            os.close(file)

    def _open(self) -> int | None:
        with contextlib.suppress(OSError):  # a folder that is not there is nobody's who trains: it is not made
            return os.open(self.path, os.O_RDONLY | os.O_CREAT, 0o600)
        return None
