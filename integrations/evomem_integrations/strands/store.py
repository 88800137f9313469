"""`EvoMemMemoryStore`: an agent of Strands that remembers what was said."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from strands import Agent
from strands.hooks import (
    AfterInvocationEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeToolCallEvent,
    MessageAddedEvent,
)
from strands.memory import (
    ExtractionConfig,
    InvocationTrigger,
    MemoryEntry,
    MemoryManager,
    MemoryMessageFilter,
    MemoryStore,
)
from strands.memory.types import AddMessagesContext, InjectionQueryContext, SearchOptions
from strands.types.content import Message

from evomem.adapter import Adapter, clean_json
from evomem.errors import StoreError
from evomem.memory import Memory
from evomem.pairing import Message as SaidMessage
from evomem.records import Hit
from evomem_integrations.strands.messages import Asked, Conversation, Noted, said

_in_tools: ContextVar[frozenset[int]] = ContextVar("evomem_strands_in_tools", default=frozenset())
"""The ids of managers whose agents are calling a tool: agents in it are not asked by the user."""


class EvoMemMemoryStore(MemoryStore):
    """Keeps one conversation of an agent, one turn for each exchange, and finds what helps in all.

    Give the agent `store.manager()`. An exchange is what the user said and everything that was answered,
    whatever batches the manager cuts it into. A question asked again in the same place of the conversation
    replaces the old one.
    """

    def __init__(
        self,
        memory: Memory | Callable[[], Memory],
        *,
        session: str | None = None,
        name: str = "evomem",
        description: str | None = None,
        max_search_results: int | None = 10,
        extraction: ExtractionConfig | bool | None = None,
        turn_source: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        """Choose the memory and how it is searched.

        Args:
            memory: The user's memory, or a function that opens it.
            session: The name of the conversation; without one, every exchange is a new turn.
            name: The store's name within the manager.
            description: The tool's description for the model.
            max_search_results: How many turns a search returns if the manager does not say.
            extraction: When the manager hands over messages; None for after each invocation.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory are raised, and left to the manager. If not, they are
                counted as well (`evomem.adapter.counts`).
            **options: For `MemoryView.search`: `mode`, filters, `trust`, `zone`.

        Raises:
            QueryError: An option makes no sense.
        """
        self.name = name
        self.description = description
        self.max_search_results = max_search_results
        self.writable = True
        self.extraction = _extraction(extraction)
        self._adapter = Adapter(memory, turn_source=turn_source, strict=strict, **options)
        self._session = session
        self._noted = Noted()
        self._conversation = Conversation(self._noted)
        self._asked: Asked | None = None
        self._shown: list[SaidMessage] = []

    def manager(self, **options: Any) -> MemoryManager:
        """Return a manager whose prompts hold what this store finds, and nothing twice.

        Args:
            **options: For `MemoryManager`; `injection=False` to leave searching to the model.
        """
        injection = options.pop("injection", True)
        if injection is not False:
            own = {"query": self.query, "max_entries": self.max_search_results or 10}
            injection = {**own, **({} if injection is True else injection)}
        return _Manager(self._noted, stores=[self], injection=injection, **options)

    def query(self, context: InjectionQueryContext, **kwargs: Any) -> str:
        """Return what the user said last, for the `query` of an injection; note what the prompt holds."""
        self._asked = self._conversation.ask(context.messages)
        self._shown = said(context.messages, self._noted)
        return self._asked.text

    async def search(self, query: str, options: SearchOptions | None = None) -> list[MemoryEntry]:
        """Return turns that help, best first; not those that the prompt holds.

        Texts are as they were said: the manager escapes them.
        """
        k = (options or {}).get("max_search_results") or self.max_search_results or 10
        hits = await self._adapter.asearch(
            query, k, session=self._session, shown=self._shown, quote=False
        )
        if self._asked is not None:
            self._asked.recalled += [hit.record.id for hit in hits]
        return [_entry(hit) for hit in hits]

    async def add(self, content: str, metadata: dict[str, Any] | None = None) -> None:
        """Write a text that the model or the program chose, as a separate turn."""
        note = {"role": "user", "content": content, "metadata": clean_json(metadata or {})}
        await self._written([note], None)

    async def add_messages(
        self, messages: list[Message], context: AddMessagesContext | None = None
    ) -> None:
        """Write the exchanges that a batch completes; nothing if a tool of another agent asked.

        Raises:
            StoreError: The memory cannot be written; the manager gives the batch again.
        """
        if _in_tools.get():
            return
        told, after = self._conversation.with_batch(messages)
        await self._written(told, self._session)
        self._conversation = after
        self._shown += said(messages, self._noted)

    async def _written(self, messages: list[Any], session: str | None) -> None:
        if not await self._adapter.acapture(messages, session=session):
            raise StoreError("turns could not be written; the log says why")


class _Manager(MemoryManager):
    """Notes what messages do not say: who asked, and what is structured output."""

    def __init__(self, noted: Noted, **options: Any) -> None:
        super().__init__(**options)
        self._noted = noted
        self._answering = False

    async def init_agent(self, agent: Agent) -> None:
        """See `MemoryManager.init_agent`."""
        await super().init_agent(agent)
        agent.add_hook(self._begin, BeforeInvocationEvent)
        agent.add_hook(self._note, MessageAddedEvent)
        agent.add_hook(self._enter, BeforeToolCallEvent)
        agent.add_hook(self._leave, AfterToolCallEvent)
        agent.add_hook(self._end, AfterInvocationEvent)

    def _begin(self, event: BeforeInvocationEvent) -> None:
        self._answering = False

    def _note(self, event: MessageAddedEvent) -> None:
        """Note a prompt in the user's role after an answer, such as for structured output."""
        if event.message["role"] == "assistant":
            self._answering = True
        elif self._answering:
            self._noted.prompts.update(message["content"] for message in said([event.message]))

    def _enter(self, event: BeforeToolCallEvent) -> None:
        _in_tools.set(_in_tools.get() | {id(self)})

    def _leave(self, event: AfterToolCallEvent) -> None:
        self._outside()
        tool, call = event.selected_tool, event.tool_use
        if tool and tool.tool_type == "structured_output" and event.result["status"] == "success":
            self._noted.answers[call["toolUseId"]] = json.dumps(call["input"], ensure_ascii=False)

    def _end(self, event: AfterInvocationEvent) -> None:
        self._outside()  # a call that waits for a person is not left

    def _outside(self) -> None:
        _in_tools.set(_in_tools.get() - {id(self)})


def _extraction(extraction: ExtractionConfig | bool | None) -> ExtractionConfig:
    """Return the configuration with a filter that leaves calls of tools to `said`."""
    whole = ExtractionConfig(filter=MemoryMessageFilter(exclude=[]))
    if isinstance(extraction, dict):
        return {**whole, **extraction}
    return whole if extraction else {**whole, "trigger": InvocationTrigger()}


def _entry(hit: Hit) -> MemoryEntry:
    record = hit.record
    facts = {"id": record.id, "session": record.turn.session, "score": hit.score}
    return MemoryEntry(content=f"[{record.time:%Y-%m-%d %H:%M}] {hit.text}", metadata=facts)
