"""`EvoMemMemoryService`: a memory service that stores each exchange of a session as one turn."""

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
from evomem_integrations.google_adk.messages import all_messages, session_messages, text_of

if TYPE_CHECKING:
    from google.genai import types


@dataclass
class _Run:
    """A run, and the ids of the turns that its model was shown."""

    session: Session
    recalled: list[str] = field(default_factory=list)


_current_run: ContextVar[_Run | None] = ContextVar("evomem_google_adk_run", default=None)
"""The current run; None without the plugin."""


class EvoMemMemoryService(BaseMemoryService):
    """Stores and finds the exchanges of users and agents, each as one turn.

    A session may be added any number of times, as a whole or in parts: each exchange is written once,
    and a rewind of the session deletes the turns after it. The tools `load_memory` and
    `preload_memory` find turns. With `plugin` in the app, sessions are added after each run, and a
    search leaves out the turns of the session that searches.
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
            memory: A function that returns the memory of an app and a user, such as
                `lambda app, user: db.memory(app, user)`.
            k: How many turns a search returns at most.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory are raised. If not, they are logged and counted
                (`evomem.adapter.counts`).
            **options: For `MemoryView.search`: `mode`, filters, `trust`, `zone`.

        Raises:
            QueryError: An option is not valid.
        """
        self._memory = memory
        self._k = k
        self._options = {"turn_source": turn_source, "strict": strict, **options}
        Adapter(lambda: memory("", ""), k=k, **self._options)  # checks the options

    @cached_property
    def plugin(self) -> BasePlugin:
        """A plugin for the app: adds the session after each run, and knows which session searches."""
        return _Plugin(self)

    async def add_session_to_memory(self, session: Session) -> None:
        """Write the answered exchanges of a session that are not written yet."""
        await asyncio.to_thread(self._add_session, session, _current_run.get())

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Write the exchanges of these events; `custom_metadata` becomes the turns' metadata."""
        metadata = clean_json(dict(custom_metadata or {}))
        messages = [
            {**message, "metadata": metadata} for message in session_messages(events).messages
        ]
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
        """Return the turns that answer a query, best first, as entries with the turns' ids."""
        run = _current_run.get()
        if run and (run.session.app_name, run.session.user_id) != (app_name, user_id):
            run = None
        hits = await self._adapter(app_name, user_id).asearch(
            query,
            self._k,
            session=run.session.id if run else None,
            shown=all_messages(run.session.events) if run else (),
        )
        if run:
            run.recalled += [hit.record.id for hit in hits]
        return SearchMemoryResponse(memories=[_entry(hit) for hit in hits])

    async def delete_memory(
        self, *, app_name: str, user_id: str, memory_id: str | None = None
    ) -> None:
        """Delete a turn; adding its session again does not bring it back."""

        def delete() -> None:
            adapter = self._adapter(app_name, user_id)
            with adapter.degrading("failed_writes"), contextlib.suppress(NotFound):
                adapter.memory.delete(str(memory_id))

        if memory_id:
            await asyncio.to_thread(delete)

    # ---------------------------------------------------------------------------------------

    def _adapter(self, app_name: str, user_id: str) -> Adapter:
        return Adapter(lambda: self._memory(app_name, user_id), **self._options)

    def _add_session(self, session: Session, run: _Run | None) -> None:
        adapter = self._adapter(session.app_name, session.user_id)
        live = session_messages(session.events)
        messages = list(live.messages)
        while messages and messages[-1]["role"] == "user":
            messages.pop()
        if run and run.session.id == session.id:
            messages = _with_recalled(messages, run)
        with adapter.degrading("failed_writes"):
            if messages and messages[0]["role"] == "assistant":
                messages = _without_leading_answers(messages, adapter.memory, session.id)
            if live.rewound:
                _delete_rewound(adapter.memory, session.id, live.rewound)
        adapter.capture(messages, session=session.id)


class _Plugin(BasePlugin):
    """Adds the session of each run of the app; agents that tools call use other services."""

    def __init__(self, service: EvoMemMemoryService) -> None:
        super().__init__("evomem")
        self._service = service

    async def before_run_callback(
        self, *, invocation_context: InvocationContext
    ) -> types.Content | None:
        if invocation_context.memory_service is self._service:
            _current_run.set(_Run(invocation_context.session))
        return None

    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        if invocation_context.memory_service is self._service:
            await self._service.add_session_to_memory(invocation_context.session)
            _current_run.set(None)

    async def on_run_error_callback(
        self, *, invocation_context: InvocationContext, error: Exception
    ) -> None:
        if invocation_context.memory_service is self._service:
            _current_run.set(None)


def _with_recalled(messages: list[Message], run: _Run) -> list[Message]:
    """Return the messages; the last one names the turns that the run was shown."""
    return [
        *messages[:-1],
        *({**message, "recalled": run.recalled} for message in messages[-1:]),
    ]


def _without_leading_answers(
    messages: list[Message], memory: Memory, session: str
) -> list[Message]:
    """Return the messages without leading answers, the rest of an exchange, if the session is known.

    A session that is loaded in part may begin in the middle of an exchange.
    """
    if not memory.history(session=label(session)):
        return messages
    return list(dropwhile(lambda message: message["role"] == "assistant", messages))


def _delete_rewound(memory: Memory, session: str, rewound: set[str]) -> None:
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
