"""PostgreSQL: connections to one schema of a server, transactions and errors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import URL, Connection, create_engine, make_url, select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import Pool

from evomem._extras import require
from evomem._forking import reset_in_child
from evomem.errors import (
    ConnectionLost,
    DatabaseBusy,
    DatabaseDamaged,
    EvomemError,
    StoreError,
    shown,
)
from evomem.store import WriteSlot, nobody_waits
from evomem_stores.database.compiled import CACHE, Shared, register
from evomem_stores.database.connections import DECODE_ERRORS, Connections, check_timeout, driver
from evomem_stores.database.tables import SCHEMA_COMMENT, memories
from evomem_stores.database.write_slots import WAIT

psycopg = require("psycopg", extra="postgres")

Commit = Literal["on", "remote_apply", "remote_write", "local", "off"]

SCHEMA = "evomem"
MAX_SLOT_CONNECTIONS = 4  # for write slots
MIN_SERVER_VERSION = 14  # older servers have no infinite numbers
IDLE_TIMEOUTS = 10.0, 600.0
"""Seconds a transaction may be idle: a short write, and a write of many rows."""
NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}
"""Settings, in seconds, after which a silent server counts as unreachable; the URL overrides them."""

_BUSY = {
    "25P03": "this process was idle for too long, and the server ended its transaction",
    "40001": "the transaction conflicted with another one",
    "40P01": "the transaction was deadlocked with another one",
    "53300": "the server accepts no more connections",
    "55P03": "another process held the lock for longer than the busy timeout",
}
_DAMAGED = ("XX001", "XX002")
_LOST = ("08", "57P")  # classes of SQL states: connection errors, server shutdown


_SERVER_AND_TABLES = """
    SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
        (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm')
            AND relnamespace = to_regnamespace(quote_ident(%s))),
        obj_description(to_regclass('migrations'), 'pg_class')"""


_IS_WAITED_FOR = """
    SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = %s::bigint::oid AND objid = %s::bigint::oid AND objsubid = 1)"""


class PostgresDialect(Shared, PGDialect_psycopg):
    """SQLAlchemy's, whose compiled statements all databases of one server version share."""

    supports_statement_cache = True

    def _settings(self) -> tuple[object, ...]:
        return (*super()._settings(), self._backslash_escapes)


_DRIVER = register(PostgresDialect, "postgresql")


class PostgresConnections(Connections):
    """A pool of connections to one schema of a server.

    Every setting is local to a transaction, so that the server may be behind a pooler.
    """

    def __init__(
        self, location: str, *, synchronous_commit: Commit, busy_timeout: float, pool_size: int
    ) -> None:
        super().__init__()
        if synchronous_commit not in get_args(Commit):
            raise StoreError(
                f"synchronous_commit must be one of {', '.join(get_args(Commit))}, "
                f"got {synchronous_commit!r}"
            )
        busy_timeout = check_timeout(busy_timeout)
        if isinstance(pool_size, bool) or not isinstance(pool_size, int) or pool_size < 1:
            raise StoreError(
                f"pool_size must be a whole number of at least 1, got {shown(pool_size)}"
            )
        url, self.schema = _parsed(location)
        public = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        self.place = f"{public} (schema {self.schema})"
        self._closed = False
        connect = partial(
            create_engine,
            url.set(drivername=_DRIVER),
            isolation_level="AUTOCOMMIT",  # or the driver would begin transactions itself
            execution_options={"compiled_cache": CACHE},
            max_overflow=0,
            pool_pre_ping=True,  # replaces connections that the server has closed
            connect_args={
                **{name: value for name, value in NETWORK.items() if name not in url.query},
                "client_encoding": "utf8",
                "fallback_application_name": "evomem",
            },
        )
        self._engine = connect(pool_size=pool_size, pool_timeout=busy_timeout)
        self._slots = connect(pool_size=MAX_SLOT_CONNECTIONS, pool_timeout=0)
        quoted = self._engine.dialect.identifier_preparer.quote_identifier(self.schema)
        settings = (
            f"SET LOCAL search_path TO {quoted}; "
            f"SET LOCAL lock_timeout TO {max(1, round(busy_timeout * 1000))}"
        )
        self._begin_reading = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}"
        # Otherwise a worker that is disconnected or suspended in a transaction keeps locks for hours.
        self._begin_writing, self._begin_rewriting = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {settings}; "
            f"SET LOCAL synchronous_commit TO {synchronous_commit}; "
            f"SET LOCAL idle_in_transaction_session_timeout TO {round(idle * 1000)}"
            for idle in IDLE_TIMEOUTS
        )
        self._create = f"CREATE SCHEMA IF NOT EXISTS {quoted}"
        self._inherited: list[Pool] = []
        reset_in_child(self._after_fork)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """See `Connections._reading`."""
        with self._transaction(self._begin_reading) as connection:
            self.guard(connection)
            yield connection

    @contextmanager
    def writing(self, memory: int | None = None) -> Iterator[Connection]:
        """See `Connections.writing`. Locks the memory's row in `memories`."""
        with self._transaction(self._begin_writing) as connection:
            self._lock(connection, memory)
            yield connection

    @contextmanager
    def write_slot(self, memory: int) -> Iterator[WriteSlot]:
        """See `Connections.write_slot`. The server serves waiting writers in order of arrival.

        A slot is an advisory lock of a transaction, so that the server may be behind a pooler, on
        a connection of its own. If no such connection is free, the writer continues without a slot.
        """
        key = self._slot_key(memory)
        stack, slot = ExitStack(), nobody_waits
        with suppress(SQLAlchemyError, psycopg.Error):
            connection = stack.enter_context(self._slots.connect())
            settings = f"SET LOCAL lock_timeout TO {round(WAIT * 1000)}"
            stack.enter_context(connection.begin())
            driver(connection).execute(f"BEGIN; {settings}")
            driver(connection).execute("SELECT pg_advisory_xact_lock(%s)", [key])
            slot = partial(self._is_waited_for, connection, key)
        try:
            yield slot
        finally:
            with suppress(SQLAlchemyError, psycopg.Error):
                stack.close()

    def slot_is_taken(self, memory: int) -> bool:
        """See `Connections.slot_is_taken`."""
        with self.reading() as connection:
            query = "SELECT pg_try_advisory_xact_lock_shared(%s)"
            [free] = driver(connection).execute(query, [self._slot_key(memory)]).fetchone()
            return not free

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """See `Connections.exclusive`."""
        with self._transaction(self._begin_rewriting) as connection:
            self._advisory_lock(connection, "writers")
            self.guard(connection)
            yield connection

    @contextmanager
    def altering(self) -> Iterator[Connection]:
        """See `Connections.altering`. Takes an advisory lock, named after the schema."""
        with self._transaction(self._begin_rewriting) as connection:
            self._advisory_lock(connection, "tables")
            [schema] = (
                driver(connection)
                .execute("SELECT to_regnamespace(quote_ident(%s))", [self.schema])
                .fetchone()
            )
            if schema is None:
                driver(connection).execute(self._create)
            yield connection

    @contextmanager
    def forgetting(self, memory: int | None = None) -> Iterator[Connection]:
        """See `Connections.forgetting`. Takes the locks of `altering` and of `writing`."""
        with self.altering() as connection:
            self._lock(connection, memory)
            yield connection

    def is_ours(self) -> bool:
        """Return whether the schema holds evomem's tables; False if it holds no tables.

        Raises:
            DatabaseDamaged: The schema holds another program's tables.
            StoreError: The server is too old, or stores text in an encoding other than UTF-8.
        """
        with self.reading() as connection:
            row = driver(connection).execute(_SERVER_AND_TABLES, [self.schema])
            version, encoding, tables, mark = row.fetchone()
        if version < MIN_SERVER_VERSION or encoding != "UTF8":
            raise StoreError(
                f"{self.place} is PostgreSQL {version} with the encoding {encoding}: evomem needs "
                f"version {MIN_SERVER_VERSION} or newer, and a database created with ENCODING 'UTF8'"
            )
        if tables and mark != SCHEMA_COMMENT:
            raise DatabaseDamaged(
                f"{self.place} holds tables of another program: name a schema for evomem alone, "
                "such as ?schema=evomem; nothing was changed"
            )
        return bool(tables)

    def scrub(self) -> bool:
        """Return False: old bytes stay on disk until `compact`, which locks the tables."""
        return False

    def faults(self, connection: Connection) -> Iterator[str]:
        """Yield triggers and rules that evomem did not create; the server checks its pages itself."""
        foreign = (
            "SELECT 'trigger', tgname::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
            "WHERE NOT tgisinternal AND relnamespace = to_regnamespace(quote_ident(%(schema)s)) "
            "UNION ALL SELECT 'rule', rulename::text FROM pg_rules WHERE schemaname = %(schema)s"
        )
        for kind, name in driver(connection).execute(foreign, {"schema": self.schema}).fetchall():
            yield f"there is a {kind} {name!r} that evomem did not create: drop it"

    def size(self, connection: Connection) -> int:
        """See `Connections.size`."""
        [size] = (
            driver(connection)
            .execute(
                "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(%s))",
                [self.schema],
            )
            .fetchone()
        )
        return int(size)

    def compact(self) -> None:
        """See `Connections.compact`. Readers and writers of a table wait while it is rewritten."""
        with self._transaction(self._begin_writing) as connection:
            self.guard(connection)
        tables = (
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s"
        )
        with self._translated(), self._engine.connect() as connection:
            execute = driver(connection).execute
            for (table,) in execute(tables, [self.schema]).fetchall():
                execute(f"VACUUM (FULL, ANALYZE) {table}")

    def backup(self, target: Path) -> None:
        """Raise `StoreError`: PostgreSQL has its own tools for backups.

        Raises:
            StoreError: Always; the message names the tools.
        """
        raise StoreError(
            f"{self.place} is copied with PostgreSQL's own tools (pg_dump --schema={self.schema}); "
            "`evomem export` writes its memories to readable files"
        )

    def close(self) -> None:
        """See `Connections.close`."""
        self._closed = True
        self._slots.dispose()
        self._engine.dispose()

    def _after_fork(self) -> None:
        """Open new connections in a forked child; leave the parent's unused and open."""
        for engine in (self._engine, self._slots):
            self._inherited.append(engine.pool)
            engine.dispose(close=False)

    def _slot_key(self, memory: int) -> int:
        """Return the number of the advisory lock for a memory's write slot."""
        name = f"evomem writer {self.schema} {memory}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)

    @staticmethod
    def _is_waited_for(connection: Connection, key: int) -> bool:
        """Return whether another connection waits for an advisory lock that this one holds."""
        halves = [key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF]
        try:
            [waited_for] = driver(connection).execute(_IS_WAITED_FOR, halves).fetchone()
        except psycopg.Error:  # the connection was lost, and the lock with it
            return True
        return bool(waited_for)

    def _lock(self, connection: Connection, memory: int | None) -> None:
        """Keep others from changing a memory, and `exclusive` from starting, in this transaction."""
        self._advisory_lock(connection, "writers", shared=True)
        self.guard(connection)
        row = select(memories.c.memory).where(memories.c.memory == memory)
        connection.execute(row.with_for_update(key_share=True))

    def _advisory_lock(self, connection: Connection, what: str, *, shared: bool = False) -> None:
        """Take an advisory lock, named after the schema, until the transaction ends."""
        kind = "_shared" if shared else ""
        driver(connection).execute(
            f"SELECT pg_advisory_xact_lock{kind}(hashtextextended(%s, 0))",
            [f"evomem {what} {self.schema}"],
        )

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        if self._closed:
            raise StoreError(f"{self.place} was closed: open it again")
        with (
            self._translated(),
            self._engine.connect() as connection,
            connection.begin(),
        ):
            # Not a listener of SQLAlchemy's: while there is one, each statement looks for listeners.
            driver(connection).execute(begin)
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise errors of SQLAlchemy and psycopg as evomem's errors."""
        try:
            yield
        except EvomemError:
            raise
        except DECODE_ERRORS as error:
            message = f"{type(error).__name__}: {error}"
            raise DatabaseDamaged(
                f"{self.place} cannot be read ({message}): run verify, and restore it from a backup; "
                "if verify finds nothing, this is a bug in evomem"
            ) from error
        except (SQLAlchemyError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            message = str(cause).strip().partition("\n")[0]
            state = getattr(cause, "sqlstate", None) or ""
            if state in _BUSY or "QueuePool limit" in message:
                raise DatabaseBusy(
                    f"{self.place}: {_BUSY.get(state, 'every connection of the pool is in use')} "
                    f"({message}); nothing was written: try again, or open with a larger "
                    "busy_timeout= or pool_size="
                ) from error
            if state in _DAMAGED:
                raise DatabaseDamaged(
                    f"{self.place} cannot be read ({message}): restore it from a backup"
                ) from error
            if state.startswith(_LOST) or (
                not state and isinstance(cause, psycopg.OperationalError)
            ):
                raise ConnectionLost(
                    f"{self.place}: there is no connection to the server, or it was lost ({message}); "
                    "the write was applied completely or not at all: retry it with the same ids, "
                    "which is harmless"
                ) from error
            raise StoreError(f"{self.place}: {message}; nothing was written") from error


def _parsed(location: str) -> tuple[URL, str]:
    """Return the driver's URL, and the schema."""
    try:
        url = make_url(location).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            "the location is not a URL such as postgresql://user@host/database"
        ) from error
    schema = url.query.get("schema", SCHEMA)
    if not isinstance(schema, str) or not schema:
        raise StoreError(f"?schema= takes one name, got {schema!r}")
    return url.difference_update_query(["schema"]), schema
