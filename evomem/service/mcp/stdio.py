"""`evomem mcp`: the server of one memory on stdin and stdout."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import cast

import anyio
from mcp.server.stdio import stdio_server

from evomem.database import Database
from evomem.errors import EvomemError
from evomem.memory import Memory
from evomem.service.mcp.server import Request, make_server
from evomem.service.mcp.table import Right
from evomem.store import Namespace


def serve(open_database: Callable[[], Database], namespace: Namespace, source: str | None) -> None:
    """Serve one memory until stdin closes; then finish running calls, and close the database.

    The first tool call opens the database, so that a client is answered at once. If it cannot be
    opened, that call returns the error, and the next one tries again.

    Args:
        open_database: Opens the database; called on a thread.
        namespace: The memory.
        source: The source of the turns that are stored.
    """
    # The thread that waits for stdin cannot be interrupted; what was acknowledged is on disk.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve(_Opened(open_database, namespace), source))


class _Opened:
    """The memory, opened on first use."""

    def __init__(self, open_database: Callable[[], Database], namespace: Namespace) -> None:
        self._open, self._namespace = open_database, namespace
        self._opening: asyncio.Task[Database] | None = None

    async def memory(self, request: Request, right: Right) -> Memory:
        """Return the memory of every request."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.create_task(asyncio.to_thread(self._open))
        db = await asyncio.shield(self._opening)  # a request that is cancelled must not stop it
        return db.memory(*self._namespace)

    async def close(self) -> None:
        if self._opening is not None:
            with suppress(EvomemError):  # it could not be opened, which the request was told
                await asyncio.to_thread((await self._opening).close)


class _Lines:
    """The lines of stdin, each of which the SDK can parse if it is JSON.

    Clients in JavaScript may send half of a surrogate pair, where an emoji was cut. Its JSON escape is
    refused by the SDK's parser, and then the client is never answered: U+FFFD takes its place.
    """

    def __init__(self) -> None:
        text = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
        self._file = anyio.wrap_file(text)

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._file:
            yield _ESCAPES.sub(_whole, line)


_HIGH, _LOW, _HEX = "u[dD][89abAB]", "u[dD][c-fC-F]", "[0-9a-fA-F]{2}"
_ESCAPES = re.compile(rf"\\(?:{_HIGH}{_HEX}\\{_LOW}{_HEX}|(?:{_HIGH}|{_LOW}){_HEX}|.)")
"""Escapes in JSON: of a whole pair, of half a one, and the start of any other."""


def _whole(escape: re.Match[str]) -> str:
    half = len(escape[0]) == len("\\udddd")
    return "\\ufffd" if half else escape[0]


async def _serve(opened: _Opened, source: str | None) -> None:
    server = make_server(opened.memory, source=source)
    try:
        stdin = cast(anyio.AsyncFile[str], _Lines())  # of which only the lines are read
        async with stdio_server(stdin) as (read, write):
            await server.run(read, write, server.create_initialization_options())
    finally:
        await opened.close()
