"""A real PostgreSQL server for tests, started in a temporary folder from the binaries of Debian's package."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MISSING = "no PostgreSQL here: install Debian's package postgresql (nothing of it needs to run)"


@dataclass(frozen=True)
class Server:
    """A running server; its socket lies in `folder`, its files in `folder/data`."""

    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def connect(self):  # type: ignore[no-untyped-def]
        import psycopg

        return psycopg.connect(host=str(self.folder), user="postgres", autocommit=True)

    def empty(self) -> None:
        """Take all tables away; a database of its own for each test would cost a second and 300 files."""
        with self.connect() as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def files_with(self, secret: bytes) -> list[Path]:
        """The tables' files that hold these bytes, after all that is to be written has been."""
        with self.connect() as connection:
            connection.execute("CHECKPOINT")
        paths = (path for path in (self.folder / "data" / "base").rglob("*") if path.is_file())
        return [path for path in paths if secret in path.read_bytes()]


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl, of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running() -> Iterator[Server]:
    """Start a server that listens on a socket only, and stop it."""
    bin_folder = binaries()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    as_root = os.geteuid() == 0
    if as_root:  # the server refuses to run as root
        shutil.chown(folder, "postgres")

    def run(program: str, *args: str) -> None:
        subprocess.run(
            [bin_folder / program, "-D", folder / "data", *args],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=120,
            user="postgres" if as_root else None,
            group="postgres" if as_root else None,
            extra_groups=() if as_root else None,
        )

    try:
        run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8")
        run(
            "pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off", "start"
        )
        yield Server(folder)
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
