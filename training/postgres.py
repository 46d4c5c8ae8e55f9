"""The log on a PostgreSQL server, for several bots or an existing backup: a pool of connections.

Always: commits wait for the server's disk. Erased text leaves the tables' files; the server's own write-ahead log and
backups keep it until they are recycled, which is the operator's to set.
"""

import threading
from typing import Any

from sqlalchemy import URL, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from training.database import Database, T, Work, reason, refusing_unstorable
from training.errors import LogCompactionError, LogError
from training.migrations import migrate
from training.schema import metadata

_MIGRATING = 0x7E57_0117  # any number: the key of the lock that migrations take


class Postgres(Database):
    """The log's database, reached and migrated. Raises LogError."""

    def __init__(self, url: URL) -> None:
        self.name = f"postgresql://{url.host or ''}/{url.database or ''}"
        self.recovered_from = None
        self._compacting = threading.Lock()
        try:
            self._engine = create_engine(
                url,
                pool_pre_ping=True,
                pool_recycle=1800,
                hide_parameters=True,  # they are people's text, and errors end in logs
                connect_args={"connect_timeout": 10, "application_name": "tertulia"},
            )
        except ModuleNotFoundError:
            raise LogError("DATABASE_URL names PostgreSQL: pip install 'tertulia[postgres]'") from None
        event.listen(self._engine, "connect", _prepare)

        def work(conn: Any) -> None:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
            migrate(conn, self.name)

        try:
            self.write(work)
        except BaseException:
            self.close()
            raise

    def write(self, work: Work[T]) -> T:
        try:
            with refusing_unstorable(self.name), self._engine.begin() as conn:
                return work(conn)
        except DBAPIError as error:
            raise LogError(f"{self.name}: {reason(error)}") from error

    def read(self, work: Work[T]) -> T:
        try:
            with refusing_unstorable(self.name), self._engine.connect() as conn:
                conn = conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                with conn.begin():
                    return work(conn)
        except DBAPIError as error:
            raise LogError(f"{self.name}: {reason(error)}") from error

    def compact(self) -> None:
        """Write the tables anew: their files hold what they hold. Others wait meanwhile, ten seconds at most."""
        try:
            with self._compacting, self._engine.connect() as conn:
                conn = conn.execution_options(isolation_level="AUTOCOMMIT")
                conn.execute(text("SET lock_timeout = '10s'"))
                try:
                    for table in metadata.sorted_tables:
                        conn.execute(text(f"VACUUM (FULL) {table.name}"))
                finally:
                    conn.execute(text("RESET lock_timeout"))
        except DBAPIError as error:
            raise LogCompactionError(
                f"{self.name}: the rows are erased, but the tables could not be rewritten ({reason(error)}): ask again"
            ) from error

    def size_bytes(self) -> int:
        names = [table.name for table in metadata.sorted_tables]
        query = text(
            "SELECT sum(pg_total_relation_size(CAST(name AS regclass))) FROM unnest(CAST(:names AS text[])) AS name"
        )
        return int(self.read(lambda conn: conn.execute(query, {"names": names}).scalar_one()))

    def close(self) -> None:
        self._engine.dispose()


def _prepare(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()
