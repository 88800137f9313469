"""`AsyncEmbeddings`: an asynchronous embedding function, for a store that reads on threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from langchain_core.embeddings import Embeddings

from evomem._forking import reset_in_child


class AsyncEmbeddings(Embeddings):
    """Calls an asynchronous function on an event loop of its own thread.

    All calls share one loop, since an API client may hold connections that belong to a loop. The
    caller's thread waits.
    """

    _loop: asyncio.AbstractEventLoop | None
    _thread: threading.Thread | None

    def __init__(self, function: Callable[[list[str]], Awaitable[list[list[float]]]]) -> None:
        """Wrap a function that maps texts to vectors."""
        self.function = function
        self.model = f"{function.__module__}.{getattr(function, '__qualname__', type(function))}"
        self._reset()
        reset_in_child(self._reset)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        return asyncio.run_coroutine_threadsafe(self._call(texts), self._running()).result()

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return self.embed_documents([text])[0]

    def close(self) -> None:
        """Stop the loop; calling it again has no effect."""
        with self._guard:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _call(self, texts: list[str]) -> Coroutine[Any, Any, list[list[float]]]:
        async def call() -> list[list[float]]:
            return await self.function(texts)

        return call()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="evomem-embeddings", daemon=True
                )
                self._thread.start()
            return self._loop

    def _reset(self) -> None:
        """Start without a loop, in the constructor and in a forked child."""
        self._guard = threading.Lock()
        self._loop = None
        self._thread = None


def is_async(function: object) -> bool:
    """Return whether a call of `function` returns an awaitable."""
    call = getattr(function, "__call__", None)  # noqa: B004  # for callable objects
    return asyncio.iscoroutinefunction(function) or asyncio.iscoroutinefunction(call)
