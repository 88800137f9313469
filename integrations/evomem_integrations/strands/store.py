"""`EvoMemMemoryStore`: a memory store for Strands agents."""

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
from evomem.pairing import Message as TextMessage
from evomem.records import Hit
from evomem_integrations.strands.messages import Conversation, Question, RunNotes, text_messages

_in_tools: ContextVar[frozenset[int]] = ContextVar("evomem_strands_in_tools", default=frozenset())
"""Ids of managers whose agents are calling a tool: prompts of agents in a tool are not the user's."""


class EvoMemMemoryStore(MemoryStore):
    """Stores one conversation of an agent, one turn per exchange, and searches all conversations.

    Give the agent `store.manager()`. An exchange is the user's message and all answers to it, however
    the manager splits them into batches. A question that is asked again at the same point of the
    conversation replaces the old one.
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
            session: The name of the conversation; without a name, every exchange is a new turn.
            name: The store's name within the manager.
            description: The tool's description for the model.
            max_search_results: The number of turns that a search returns unless the manager sets it.
            extraction: When the manager passes on messages; None for after each invocation.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory are raised, for the manager to handle. If not, they
                are logged and counted (`evomem.adapter.counts`).
            **options: For `MemoryView.search`: `mode`, filters, `trust`, `zone`.

        Raises:
            QueryError: An option is not valid.
        """
        self.name = name
        self.description = description
        self.max_search_results = max_search_results
        self.writable = True
        self.extraction = _extraction(extraction)
        self._adapter = Adapter(memory, turn_source=turn_source, strict=strict, **options)
        self._session = session
        self._notes = RunNotes()
        self._conversation = Conversation(self._notes)
        self._question: Question | None = None
        self._shown: list[TextMessage] = []

    def manager(self, **options: Any) -> MemoryManager:
        """Return a manager that adds the turns this store finds to prompts, without duplicates.

        Args:
            **options: For `MemoryManager`; `injection=False` to leave searching to the model.
        """
        injection = options.pop("injection", True)
        if injection is not False:
            defaults = {"query": self.query, "max_entries": self.max_search_results or 10}
            injection = {**defaults, **({} if injection is True else injection)}
        return _Manager(self._notes, stores=[self], injection=injection, **options)

    def query(self, context: InjectionQueryContext, **kwargs: Any) -> str:
        """Return the user's last message as the query of an injection; record the prompt's messages."""
        self._question = self._conversation.ask(context.messages)
        self._shown = text_messages(context.messages, self._notes)
        return self._question.text

    async def search(self, query: str, options: SearchOptions | None = None) -> list[MemoryEntry]:
        """Return the turns that answer a query, best first, without those that the prompt holds.

        Texts are not escaped, because the manager escapes them.
        """
        k = (options or {}).get("max_search_results") or self.max_search_results or 10
        hits = await self._adapter.asearch(
            query, k, session=self._session, shown=self._shown, quote=False
        )
        if self._question is not None:
            self._question.recalled += [hit.record.id for hit in hits]
        return [_entry(hit) for hit in hits]

    async def add(self, content: str, metadata: dict[str, Any] | None = None) -> None:
        """Write a text that the model or the program chose, as a separate turn."""
        note = {"role": "user", "content": content, "metadata": clean_json(metadata or {})}
        await self._write([note], None)

    async def add_messages(
        self, messages: list[Message], context: AddMessagesContext | None = None
    ) -> None:
        """Write the exchanges that a batch completes, unless a tool of another agent called this one.

        Raises:
            StoreError: The memory cannot be written; the manager passes the batch again.
        """
        if _in_tools.get():
            return
        complete, updated = self._conversation.with_batch(messages)
        await self._write(complete, self._session)
        self._conversation = updated
        self._shown += text_messages(messages, self._notes)

    async def _write(self, messages: list[Any], session: str | None) -> None:
        if not await self._adapter.acapture(messages, session=session):
            raise StoreError("the turns could not be written: see the logged error")


class _Manager(MemoryManager):
    """Records prompts that a program added, tool calls in progress, and structured output."""

    def __init__(self, notes: RunNotes, **options: Any) -> None:
        super().__init__(**options)
        self._notes = notes
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
        """Record a prompt in the user's role after an answer, such as one for structured output."""
        if event.message["role"] == "assistant":
            self._answering = True
        elif self._answering:
            self._notes.prompts.update(
                message["content"] for message in text_messages([event.message])
            )

    def _enter(self, event: BeforeToolCallEvent) -> None:
        _in_tools.set(_in_tools.get() | {id(self)})

    def _leave(self, event: AfterToolCallEvent) -> None:
        self._outside()
        tool, call = event.selected_tool, event.tool_use
        if tool and tool.tool_type == "structured_output" and event.result["status"] == "success":
            self._notes.answers[call["toolUseId"]] = json.dumps(call["input"], ensure_ascii=False)

    def _end(self, event: AfterInvocationEvent) -> None:
        self._outside()  # a tool call that waits for a person has no `AfterToolCallEvent`

    def _outside(self) -> None:
        _in_tools.set(_in_tools.get() - {id(self)})


def _extraction(extraction: ExtractionConfig | bool | None) -> ExtractionConfig:
    """Return the configuration with a filter that keeps tool calls, which `text_messages` handles."""
    unfiltered = ExtractionConfig(filter=MemoryMessageFilter(exclude=[]))
    if isinstance(extraction, dict):
        return {**unfiltered, **extraction}
    return unfiltered if extraction else {**unfiltered, "trigger": InvocationTrigger()}


def _entry(hit: Hit) -> MemoryEntry:
    record = hit.record
    facts = {"id": record.id, "session": record.turn.session, "score": hit.score}
    return MemoryEntry(content=f"[{record.time:%Y-%m-%d %H:%M}] {hit.text}", metadata=facts)
