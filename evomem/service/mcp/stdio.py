"""`evomem mcp`: the server of one memory on stdin and stdout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mcp.server.stdio import stdio_server

from evomem.database import Database
from evomem.errors import EvomemError
from evomem.memory import Memory
from evomem.service.mcp.server import Request, make_server
from evomem.service.mcp.tools import Right
from evomem.store import Namespace


def serve(open_database: Callable[[], Database], namespace: Namespace, source: str | None) -> None:
    """Serve one memory until stdin ends; then finish what was begun, and close the database.

    The database is opened by the first call of a tool, so that a client is answered at once. If it
    cannot be opened, that call says why, and the next one tries again.

    Args:
        open_database: Opens the database; called on a thread.
        namespace: The memory.
        source: The source of the turns that are stored.
    """
    asyncio.run(_serve(_Opened(open_database, namespace), source))


class _Opened:
    """The memory, opened when it is first asked for."""

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


async def _serve(opened: _Opened, source: str | None) -> None:
    server = make_server(opened.memory, source=source)
    try:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    finally:
        await opened.close()
