"""`AsyncMemory`: `Memory` without blocking the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from evomem._forking import reset_in_child
from evomem_integrations.mem0.memory import Memory

P = ParamSpec("P")
R = TypeVar("R")


class AsyncMemory:
    """Replaces `mem0.AsyncMemory`: every method of `Memory`, to be awaited.

    Writes happen one at a time, in the order of the calls.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Open the database of a configuration, or use one that is open: see `Memory`."""
        self._memory = Memory(config, **options)
        self._make_writer()
        reset_in_child(self._make_writer)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> AsyncMemory:
        """Open the database of a configuration."""
        return cls(config_dict)

    async def add(self, messages: Any, *, llm: Any = None, **options: Any) -> dict[str, Any]:
        """See `Memory.add`; `llm` is accepted as in Mem0, and not used."""
        return await self._write(self._memory.add, messages, **options)

    async def update(self, memory_id: str, *args: Any, **options: Any) -> dict[str, str]:
        """See `Memory.update`."""
        return await self._write(self._memory.update, memory_id, *args, **options)

    async def delete(self, memory_id: str) -> dict[str, str]:
        """See `Memory.delete`."""
        return await self._write(self._memory.delete, memory_id)

    async def delete_all(self, *args: Any, **ids: Any) -> dict[str, str]:
        """See `Memory.delete_all`."""
        return await self._write(self._memory.delete_all, *args, **ids)

    async def reset(self) -> None:
        """See `Memory.reset`."""
        await self._write(self._memory.reset)

    async def search(self, query: str, **options: Any) -> dict[str, Any]:
        """See `Memory.search`."""
        return await asyncio.to_thread(self._memory.search, query, **options)

    async def get(self, memory_id: str) -> dict[str, Any] | None:
        """See `Memory.get`."""
        return await asyncio.to_thread(self._memory.get, memory_id)

    async def get_all(self, **options: Any) -> dict[str, Any]:
        """See `Memory.get_all`."""
        return await asyncio.to_thread(self._memory.get_all, **options)

    async def history(self, memory_id: str) -> list[dict[str, Any]]:
        """See `Memory.history`."""
        return await asyncio.to_thread(self._memory.history, memory_id)

    async def chat(self, query: str) -> None:
        """Not implemented, as in Mem0."""
        self._memory.chat(query)

    def close(self) -> None:
        """Finish pending writes and close the database."""
        self._writer.shutdown()
        self._memory.close()

    async def __aenter__(self) -> AsyncMemory:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_writer(self) -> None:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="evomem-mem0")

    async def _write(self, call: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
        bound = functools.partial(call, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._writer, bound)
