"""`Chats`: the stored messages of sessions, keyed by database, namespace and session name.

One SQL database holds the messages of many memories, in the tables of LlamaIndex's own chat store.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory as ShortTermMemory
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from evomem.store import Namespace
from evomem_integrations._databases import place_of

R = TypeVar("R")

TABLE = "evomem_messages"
UNASSIGNED = "llama_index_memory"
"""A table of earlier versions, which holds the session of a message but not its owner."""

IDS_PER_STATEMENT = 500
CLEANED = 1  # the `user_version` of a file without deleted content in its free pages


class StoredMessage(NamedTuple):
    """A message as it is stored in the table."""

    id: int
    put: datetime
    message: ChatMessage


def run(call: Coroutine[Any, Any, R]) -> R:
    """Run an asynchronous call to completion, also from a thread in which an event loop runs.

    It runs on a separate thread, so that the caller's event loop is not used.
    """
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, call).result()


class Chats:
    """The messages that belong to the memories of one database."""

    def __init__(self, location: str, uri: str | None) -> None:
        """Connect on first use.

        Args:
            location: The database of the memories, as in `evomem.open`.
            uri: An asynchronous SQLAlchemy URL; a file next to the database if None.

        Raises:
            ValueError: `uri` is None and the database is not a file.
        """
        self.next_to_database = uri is None
        self.url = _url_next_to(location) if uri is None else sa.make_url(uri)
        # A file is keyed without its location, so that a folder with both files can be moved. A URL
        # may be shared by several databases.
        self._place = "" if uri is None else _without_password(location)
        # A connection belongs to an event loop, and every synchronous call creates a new loop.
        self._engine = create_async_engine(self.url, poolclass=NullPool)
        self._sqlite = self._engine.dialect.name == "sqlite"
        if self._sqlite:
            sa.event.listen(self._engine.sync_engine, "connect", _delete_securely)

    def open(self, namespace: Namespace, session: str, token_limit: int) -> ShortTermMemory:
        """Return a session's messages as LlamaIndex's own short-term memory."""
        return ShortTermMemory.from_defaults(
            session_id=self.key(namespace, session),
            token_limit=token_limit,
            chat_history_token_ratio=1.0,
            chat_store=SQLAlchemyChatStore(TABLE, async_engine=self._engine),
        )

    def key(self, namespace: Namespace, session: str) -> str:
        """Return the unique key of a session's messages."""
        return json.dumps([self._place, list(namespace), session])

    # reading -------------------------------------------------------------------------------

    async def addresses(self) -> list[tuple[Namespace, str]]:
        """Return the namespace and name of every session of the database that has messages."""
        keys = [json.loads(key) for key in await self._keys(TABLE)]
        return [(tuple(labels), session) for place, labels, session in keys if place == self._place]

    async def sessions(self, namespace: Namespace) -> list[str]:
        """Return the sessions of one memory that have messages."""
        return [session for labels, session in await self.addresses() if labels == namespace]

    async def rows(self, namespace: Namespace, session: str) -> list[StoredMessage]:
        """Return a session's messages, oldest first."""
        return await self._rows(TABLE, self.key(namespace, session))

    async def unassigned_sessions(self) -> list[str]:
        """Return the sessions that have messages of an unknown owner."""
        return await self._keys(UNASSIGNED)

    async def unassigned(self, session: str) -> list[StoredMessage]:
        """Return the messages of a session whose owner is unknown."""
        return await self._rows(UNASSIGNED, session)

    # writing -------------------------------------------------------------------------------

    async def assign(self, session: str, namespace: Namespace) -> None:
        """Assign all unassigned messages of a session to a memory, in one transaction."""
        old, new = _messages(UNASSIGNED), _messages(TABLE)
        await self._make_table()
        columns = (old.c.timestamp, old.c.role, old.c.status, old.c.data)
        in_session = old.c.key == session
        key = sa.literal(self.key(namespace, session))
        moved = sa.select(key, *columns).where(in_session).order_by(old.c.timestamp, old.c.id)
        names = ["key", *(column.name for column in columns)]
        async with self._engine.begin() as connection:
            await connection.execute(sa.select(old.c.id).where(in_session).with_for_update())
            await connection.execute(sa.insert(new).from_select(names, moved))
            await connection.execute(sa.delete(old).where(in_session))

    async def erase(self, ids: Sequence[int], *, unassigned: bool = False) -> int:
        """Delete messages by id; return how many there were."""
        table = _messages(UNASSIGNED if unassigned else TABLE)
        count = 0
        async with self._engine.begin() as connection:
            for start in range(0, len(ids), IDS_PER_STATEMENT):
                selected = table.c.id.in_(ids[start : start + IDS_PER_STATEMENT])
                count += (await connection.execute(sa.delete(table).where(selected))).rowcount
        return count

    async def scrub(self) -> bool:
        """Remove deleted messages from SQLite's files; return whether none of their bytes are left.

        Return False for a server, which keeps deleted rows in its files until it vacuums them.
        """
        if not self._sqlite:
            return False
        if not self._exists():
            return True
        try:
            async with self._engine.connect() as connection:
                plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
                # A file that was not opened with `secure_delete` keeps deleted content in free pages.
                if await plain.scalar(sa.text("PRAGMA user_version")) != CLEANED:
                    await plain.execute(sa.text("VACUUM"))
                    await plain.execute(sa.text(f"PRAGMA user_version = {CLEANED}"))
                await plain.execute(sa.text("PRAGMA busy_timeout = 1000"))  # wait 1 s for readers
                busy = await plain.scalar(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        except OperationalError:  # another process is using the file
            return False
        return not busy

    # ---------------------------------------------------------------------------------------

    async def _keys(self, name: str) -> list[str]:
        if not await self._has(name):
            return []
        async with self._engine.connect() as connection:
            keys = await connection.scalars(sa.select(_messages(name).c.key).distinct())
            return list(keys)

    async def _rows(self, name: str, key: str) -> list[StoredMessage]:
        if not await self._has(name):
            return []
        table = _messages(name)
        query = sa.select(table.c.id, table.c.timestamp, table.c.data).where(table.c.key == key)
        async with self._engine.connect() as connection:
            rows = await connection.execute(query.order_by(table.c.timestamp, table.c.id))
            return [
                StoredMessage(id, _time(nanoseconds), ChatMessage.model_validate(data))
                for id, nanoseconds, data in rows
            ]

    async def _has(self, name: str) -> bool:
        if self._sqlite and not self._exists():
            return False
        async with self._engine.connect() as connection:
            return await _inspected(connection, lambda inspector: inspector.has_table(name))

    async def _make_table(self) -> None:
        await SQLAlchemyChatStore(TABLE, async_engine=self._engine).count_messages("")

    def _exists(self) -> bool:
        return Path(self.url.database or "").is_file()


async def _inspected(connection: AsyncConnection, ask: Callable[[sa.Inspector], R]) -> R:
    return await connection.run_sync(lambda sync: ask(sa.inspect(sync)))


def _messages(name: str) -> sa.TableClause:
    """Return a table with the columns of LlamaIndex's chat store."""
    columns: Iterable[sa.ColumnClause[Any]] = (
        sa.column("id", sa.Integer),
        sa.column("key", sa.String),
        sa.column("timestamp", sa.BigInteger),
        sa.column("role", sa.String),
        sa.column("status", sa.String),
        sa.column("data", sa.JSON),
    )
    return sa.table(name, *columns)


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)


def _delete_securely(connection: Any, _: object) -> None:
    """Let SQLite overwrite deleted content, so that no byte of a message stays in the file."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _url_next_to(location: str) -> sa.URL:
    place = place_of(location)
    if place == ":memory:" or "://" in place:
        raise ValueError(
            f"messages are stored in a file next to the database, but {location!r} is not a file: set "
            'chat_store_uri to an asynchronous SQLAlchemy URL such as "postgresql+asyncpg://..."'
        )
    return sa.URL.create("sqlite+aiosqlite", database=f"{place}.chat")


def _without_password(location: str) -> str:
    place = place_of(location)
    if "://" not in place:
        return place
    return sa.make_url(place).set(password=None).render_as_string()
