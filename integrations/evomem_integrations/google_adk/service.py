"""`EvoMemMemoryService`: a memory service that keeps sessions as turns, each exchange once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.adk.memory import BaseMemoryService
from google.adk.memory.base_memory_service import SearchMemoryResponse
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.sessions import Session
from google.genai.types import Content, Part

from evomem.adapter import Adapter, clean_json
from evomem.adapter.messages import label
from evomem.adapter.writing import MESSAGE, mark
from evomem.errors import NotFound
from evomem.memory import Memory
from evomem.pairing import Message
from evomem.records import Hit
from evomem_integrations.google_adk.messages import shown, text_of, transcript_of

if TYPE_CHECKING:
    from google.genai import types


@dataclass
class _Asking:
    """A run, and the turns it was shown."""

    session: Session
    recalled: list[str] = field(default_factory=list)


_asking: ContextVar[_Asking | None] = ContextVar("evomem_google_adk_asking", default=None)
"""The run that asks, where the plugin knows it."""


class EvoMemMemoryService(BaseMemoryService):
    """Keeps what users and agents said, one turn for each exchange, and finds it again.

    A session may be added as often as you like, whole or in parts: an exchange is written once, and a
    session that was rewound takes back what was said since. The tools `load_memory` and
    `preload_memory` find turns. With `plugin` in the app, sessions are added after each run, and a
    search leaves out the turns of the asking session.
    """

    def __init__(
        self,
        memory: Callable[[str, str], Memory],
        *,
        k: int = 10,
        turn_source: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        """Choose the memories and how they are searched.

        Args:
            memory: Finds the memory of an app and a user, such as
                `lambda app, user: db.memory(app, user)`.
            k: How many turns a search returns at most.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory are raised. If not, they are logged and counted
                (`evomem.adapter.counts`).
            **options: For `MemoryView.search`: `mode`, filters, `trust`, `zone`.

        Raises:
            QueryError: An option makes no sense.
        """
        self._memory = memory
        self._k = k
        self._options = {"turn_source": turn_source, "strict": strict, **options}
        Adapter(lambda: memory("", ""), k=k, **self._options)  # checks the options

    @cached_property
    def plugin(self) -> BasePlugin:
        """A plugin for the app: it adds the session after each run, and says which one asks."""
        return _Plugin(self)

    async def add_session_to_memory(self, session: Session) -> None:
        """Write the exchanges of a session that are not written yet; one without an answer waits."""
        await asyncio.to_thread(self._add_session, session, _asking.get())

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Write the exchanges that these events hold; the metadata becomes that of the turns."""
        facts = clean_json(dict(custom_metadata or {}))
        messages = [{**message, "metadata": facts} for message in transcript_of(events).messages]
        await self._adapter(app_name, user_id).acapture(messages, session=session_id)

    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Write memories, each as a separate turn."""
        messages = [
            {
                "role": "user",
                "content": text_of(entry.content),
                "name": None if entry.author == "user" else entry.author,
                "time": entry.timestamp,
                "metadata": clean_json({**(custom_metadata or {}), **entry.custom_metadata}),
            }
            for entry in memories
        ]
        await self._adapter(app_name, user_id).acapture(messages)

    async def search_memory(
        self, *, app_name: str, user_id: str, query: str
    ) -> SearchMemoryResponse:
        """Return turns that help with a query, best first, each as one entry with the turn's id."""
        asking = _asking.get()
        if asking and (asking.session.app_name, asking.session.user_id) != (app_name, user_id):
            asking = None
        hits = await self._adapter(app_name, user_id).asearch(
            query,
            self._k,
            session=asking.session.id if asking else None,
            shown=shown(asking.session.events) if asking else (),
        )
        if asking:
            asking.recalled += [hit.record.id for hit in hits]
        return SearchMemoryResponse(memories=[_entry(hit) for hit in hits])

    async def delete_memory(
        self, *, app_name: str, user_id: str, memory_id: str | None = None
    ) -> None:
        """Delete a turn. It stays deleted when its session is added again."""

        def delete() -> None:
            adapter = self._adapter(app_name, user_id)
            with adapter.degrading("failed_writes"), contextlib.suppress(NotFound):
                adapter.memory.delete(str(memory_id))

        if memory_id:
            await asyncio.to_thread(delete)

    # ---------------------------------------------------------------------------------------

    def _adapter(self, app_name: str, user_id: str) -> Adapter:
        return Adapter(lambda: self._memory(app_name, user_id), **self._options)

    def _add_session(self, session: Session, asking: _Asking | None) -> None:
        adapter = self._adapter(session.app_name, session.user_id)
        told = transcript_of(session.events)
        messages = list(told.messages)
        while messages and messages[-1]["role"] == "user":
            messages.pop()
        if asking and asking.session.id == session.id:
            messages = _with_recalled(messages, asking)
        with adapter.degrading("failed_writes"):
            if messages and messages[0]["role"] == "assistant":
                messages = _whole(messages, adapter.memory, session.id)
            if told.rewound:
                _take_back(adapter.memory, session.id, told.rewound)
        adapter.capture(messages, session=session.id)


class _Plugin(BasePlugin):
    """Adds the session of each run of the app; agents that tools call have other services."""

    def __init__(self, service: EvoMemMemoryService) -> None:
        super().__init__("evomem")
        self._service = service

    async def before_run_callback(
        self, *, invocation_context: InvocationContext
    ) -> types.Content | None:
        if invocation_context.memory_service is self._service:
            _asking.set(_Asking(invocation_context.session))
        return None

    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        if invocation_context.memory_service is self._service:
            await self._service.add_session_to_memory(invocation_context.session)
            _asking.set(None)

    async def on_run_error_callback(
        self, *, invocation_context: InvocationContext, error: Exception
    ) -> None:
        if invocation_context.memory_service is self._service:
            _asking.set(None)


def _with_recalled(messages: list[Message], asking: _Asking) -> list[Message]:
    """Return the messages; those of the run's exchange name the turns it was shown."""
    return [
        *messages[:-1],
        *({**message, "recalled": asking.recalled} for message in messages[-1:]),
    ]


def _whole(messages: list[Message], memory: Memory, session: str) -> list[Message]:
    """Return the messages without the rest of an exchange that a session loaded in part begins with."""
    if not memory.history(session=label(session)):
        return messages
    return list(dropwhile(lambda message: message["role"] == "assistant", messages))


def _take_back(memory: Memory, session: str, rewound: set[str]) -> None:
    place = label(session)
    marks = {mark(place, label(id)) for id in rewound}
    for record in memory.history(session=place):
        if record.turn.metadata.get(MESSAGE) in marks:
            memory.delete(record.id)


def _entry(hit: Hit) -> MemoryEntry:
    return MemoryEntry(
        id=hit.record.id,
        content=Content(role="user", parts=[Part(text=hit.text)]),
        timestamp=hit.record.time.isoformat(),
        custom_metadata={"session": hit.record.turn.session, "score": hit.score},
    )
