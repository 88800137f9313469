"""`EvoMemContextProvider`: gives an agent a memory of its conversations across sessions and restarts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agent_framework import (
    AgentSession,
    ContextProvider,
    FunctionInvocationContext,
    FunctionMiddleware,
    HistoryProvider,
    SessionContext,
    SupportsAgentRun,
)
from agent_framework import Message as HostMessage

from evomem.adapter import HEADER, Adapter
from evomem.memory import Memory
from evomem_integrations.agent_framework.messages import Exchange, open_exchange, text_messages

_in_tool: ContextVar[bool] = ContextVar("evomem_agent_framework_in_tool", default=False)
"""Whether a tool is running: the prompts of agents that it calls do not come from the user."""
_WAITING = "waiting"
"""Key in the provider's state: the exchange of a run that waits for a person."""


class EvoMemContextProvider(ContextProvider):
    """Reads the memory before each run and writes the exchange after it.

    Recalled turns are added after the run's instructions and are not stored. An exchange is the
    user's message and all answers to it. It becomes one turn of the memory, with the session's id and
    the ids of the turns that the model was shown. A run that continues after an approval completes
    its turn. A question that is asked again at the same point of a session replaces the old one. A
    failed run writes nothing, and neither does an agent that is called by a tool.
    """

    def __init__(
        self,
        memory: Memory | Callable[[AgentSession], Memory],
        *,
        source_id: str = "evomem",
        header: str = HEADER,
        turn_source: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        """Choose the memory and how it is searched.

        Args:
            memory: One memory, or a function that finds it for a session, such as
                `lambda session: db.memory("acme", session.state["user"])`.
            source_id: The provider's name within the agent; it must be unique there.
            header: The text before the recalled turns.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory end the run. If not, they are logged and counted
                (`evomem.adapter.counts`).
            **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
                `trust`, `zone`.

        Raises:
            QueryError: An option is not valid.
        """
        super().__init__(source_id)
        self._memory = memory
        self._options = {
            "header": header,
            "turn_source": turn_source,
            "strict": strict,
            **options,
        }
        self._adapter(AgentSession())  # checks the options

    async def before_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Add recalled turns after the instructions of this run."""
        history = await self._history(agent, session, context)
        exchange = open_exchange(context.input_messages, history, state.get(_WAITING))
        shown = [*text_messages(history), *text_messages(context.input_messages)]
        block = await self._adapter(session).arecall(
            exchange.query, session=session.session_id, shown=shown
        )
        exchange.recalled += block.ids
        context.metadata[self._key] = exchange
        if block:
            context.extend_instructions(self.source_id, str(block))
        context.extend_middleware(self.source_id, _InTool())

    async def after_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Write the exchange, unless a tool called this agent."""
        exchange: Exchange | None = context.metadata.get(self._key)
        if exchange is None or context.response is None or _in_tool.get():
            return
        exchange.messages += text_messages(context.response.messages)
        if context.response.user_input_requests:
            state[_WAITING] = exchange.to_json()
        else:
            state.pop(_WAITING, None)
        if any(message["role"] == "assistant" for message in exchange.messages):
            await self._adapter(session).acapture(
                exchange.with_ids(), session=session.session_id, recalled=exchange.recalled
            )

    # ---------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        return f"evomem exchange of {self.source_id}"

    def _adapter(self, session: AgentSession) -> Adapter:
        memory = self._memory
        if callable(memory):
            choose = memory
            return Adapter(lambda: choose(session), **self._options)
        return Adapter(memory, **self._options)

    async def _history(
        self, agent: SupportsAgentRun, session: AgentSession, context: SessionContext
    ) -> list[HostMessage]:
        """Return the messages of the run's prompt other than its input.

        History providers after this one have not loaded theirs yet, so it is read from them here.
        """
        messages = context.get_messages(exclude_sources={self.source_id})
        for provider in getattr(agent, "context_providers", ()):
            if not isinstance(provider, HistoryProvider) or not provider.load_messages:
                continue
            if provider.source_id not in context.context_messages:
                state = session.state.setdefault(provider.source_id, {})
                messages += await provider.get_messages(context.session_id, state=state)
        return messages


class _InTool(FunctionMiddleware):
    """Marks the time in which a tool runs."""

    async def process(
        self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]
    ) -> None:
        token = _in_tool.set(True)
        try:
            await call_next()
        finally:
            _in_tool.reset(token)
