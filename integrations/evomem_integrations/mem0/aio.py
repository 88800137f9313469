"""`AsyncMemory`: `Memory` without blocking the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from evomem._forking import reset_in_child
from evomem_integrations.mem0.memory import UNSET, Memory

P = ParamSpec("P")
R = TypeVar("R")


class AsyncMemory:
    """Replaces `mem0.AsyncMemory`: every method of `Memory`, to be awaited.

    Writes happen one at a time, in the order of the calls.
    """

    def __init__(self, config: Any = None, **options: Any) -> None:
        """Open the database of a configuration, or use one that is open: see `Memory`."""
        self._memory = Memory(config, **options)
        self._make_writer()
        reset_in_child(self._make_writer)

    @classmethod
    def from_config(cls, config_dict: Mapping[str, Any]) -> AsyncMemory:
        """Open the database of a configuration."""
        return cls(config_dict)

    async def add(
        self,
        messages: str | Mapping[str, Any] | list[Any],
        *,
        user_id: Any = None,
        agent_id: Any = None,
        run_id: Any = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        expiration_date: Any = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
        llm: Any = None,
    ) -> dict[str, Any]:
        """See `Memory.add`; `llm` is accepted as in Mem0 and ignored."""
        return await self._write(
            self._memory.add,
            messages,
            user_id=user_id,
            agent_id=agent_id,
            run_id=run_id,
            metadata=metadata,
            timestamp=timestamp,
            expiration_date=expiration_date,
            infer=infer,
            memory_type=memory_type,
            prompt=prompt,
        )

    async def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: Any = UNSET,
        data: str | None = None,
    ) -> dict[str, str]:
        """See `Memory.update`."""
        return await self._write(
            self._memory.update, memory_id, text, metadata, expiration_date, data
        )

    async def delete(self, memory_id: str) -> dict[str, str]:
        """See `Memory.delete`."""
        return await self._write(self._memory.delete, memory_id)

    async def delete_all(
        self, user_id: Any = None, agent_id: Any = None, run_id: Any = None
    ) -> dict[str, str]:
        """See `Memory.delete_all`."""
        return await self._write(self._memory.delete_all, user_id, agent_id, run_id)

    async def reset(self) -> None:
        """See `Memory.reset`."""
        await self._write(self._memory.reset)

    async def search(
        self,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = 0.1,
        rerank: bool = False,
        explain: bool = False,
        reference_date: Any = None,
        show_expired: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """See `Memory.search`, also for further options."""
        return await asyncio.to_thread(
            self._memory.search,
            query,
            top_k=top_k,
            filters=filters,
            threshold=threshold,
            rerank=rerank,
            explain=explain,
            reference_date=reference_date,
            show_expired=show_expired,
            **options,
        )

    async def get(self, memory_id: str) -> dict[str, Any] | None:
        """See `Memory.get`."""
        return await asyncio.to_thread(self._memory.get, memory_id)

    async def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        top_k: int = 20,
        show_expired: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """See `Memory.get_all`, also for further options."""
        return await asyncio.to_thread(
            self._memory.get_all,
            filters=filters,
            top_k=top_k,
            show_expired=show_expired,
            **options,
        )

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
