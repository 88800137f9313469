"""The messages of a session, exactly as they were put: LlamaIndex's own short-term memory."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

R = TypeVar("R")

TABLE = "llama_index_memory"  # LlamaIndex's own default


class History:
    """A session's messages in a database of LlamaIndex's; the newest are the prompt's."""

    def __init__(self, uri: str | URL, session: str, token_limit: int) -> None:
        # A connection belongs to an event loop, and every synchronous call has one of its own.
        engine = create_async_engine(uri, poolclass=NullPool)
        self.messages = Memory.from_defaults(
            session_id=session,
            token_limit=token_limit,
            chat_history_token_ratio=1.0,
            chat_store=SQLAlchemyChatStore(TABLE, async_engine=engine),
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Be None in a copy or a pickle: whoever wakes up there connects again."""
        return type(None), ()


def default_uri(location: str) -> URL:
    """Return where the messages go that belong to a database: a file beside it.

    Raises:
        ValueError: The database is no file; the message says what to give.
    """
    path = location.removeprefix("sqlite:///")
    if path == ":memory:" or "://" in path:
        raise ValueError(
            f"messages are kept in a file beside the database, and {location!r} is none: give "
            'chat_store_uri, an asynchronous SQLAlchemy URL such as "postgresql+asyncpg://..."'
        )
    file = Path(path).expanduser().absolute()
    return URL.create("sqlite+aiosqlite", database=f"{file}.chat")


def run(call: Coroutine[Any, Any, R]) -> R:
    """Wait for an asynchronous call, whether or not an event loop runs in this thread.

    On a thread of its own, so that the caller's event loop is left as it is.
    """
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, call).result()
