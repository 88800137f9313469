"""`EvoMemCapability`: an agent that remembers what was said, across conversations and restarts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from pydantic_ai import AgentRunResult, RunContext
from pydantic_ai.capabilities import (
    AbstractCapability,
    WrapModelRequestHandler,
    WrapOutputProcessHandler,
    WrapRunHandler,
    WrapToolExecuteHandler,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    ToolCallPart,
)
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.output import OutputContext
from pydantic_ai.tools import AgentDepsT, ToolDefinition

from evomem.adapter import HEADER, Adapter
from evomem.memory import Memory
from evomem.records import Context
from evomem_integrations.pydantic_ai.messages import RECALLED, Exchange, begun, spoken

_in_function: ContextVar[bool] = ContextVar("evomem_pydantic_ai_in_function", default=False)
"""Whether a tool or an output function runs: agents that it calls are not asked by the user."""


class EvoMemCapability(AbstractCapability[AgentDepsT]):
    """Reads the memory for each model call, and writes the exchange when the run is done.

    What is recalled is a system prompt of that request and nothing else: it never becomes part of the
    message history. An exchange is what the user said when the run began and everything that was
    answered, one turn of the memory with the conversation's id as its session and the ids of the turns
    that the model was shown. A run that continues after a pause completes the turn. A question asked
    again in the same place of a conversation replaces the old one. A run that fails writes
    nothing.

    An agent that a tool or an output function of another agent calls reads the memory and writes
    nothing: its prompts are not the user's words.
    """

    def __init__(
        self,
        memory: Memory | Callable[[RunContext[AgentDepsT]], Memory],
        *,
        id: str | None = None,
        header: str = HEADER,
        turn_source: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        """Choose the memory and how it is searched.

        Args:
            memory: One memory, or a function that finds it for a run, such as
                `lambda ctx: db.memory("acme", ctx.deps.user)`.
            id: The capability's name within the agent.
            header: The text before the recalled turns.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory end the run. If not, they are logged and counted
                (`evomem.adapter.counts`).
            **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
                `trust`, `zone`.

        Raises:
            QueryError: An option makes no sense.
        """
        self.id = id
        self._memory = memory
        self._options = {
            "header": header,
            "turn_source": turn_source,
            "strict": strict,
            **options,
        }
        self._exchange = Exchange("", [])  # of a run: `for_run`
        self._recalled: Sequence[str] = ()
        self._adapter(None)  # checks the options

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return None: a memory cannot be named in an agent's specification."""
        return None

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> EvoMemCapability[AgentDepsT]:
        """Return a copy for one run, with the user's message."""
        run = copy.copy(self)
        run._exchange = begun(ctx.prompt, ctx.messages, ctx.run_id, ctx.conversation_id)
        return run

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Run the agent; write the exchange unless the run fails."""
        result = await handler()
        if not _in_function.get():
            await self._adapter(ctx).acapture(
                self._exchange.messages(result.output, ctx.run_id),
                session=ctx.conversation_id,
                recalled=self._exchange.recalled,
            )
        return result

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: WrapToolExecuteHandler,
    ) -> Any:
        """Call a tool; agents that it calls write nothing."""
        with _function():
            return await handler(args)

    async def wrap_output_process(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        output_context: OutputContext,
        output: Any,
        handler: WrapOutputProcessHandler,
    ) -> Any:
        """Process the output; agents that an output function calls write nothing."""
        with _function():
            return await handler(output)

    async def prepare_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Add the recalled turns to the request only, not to stored messages."""
        block = await self._adapter(ctx).arecall(
            self._exchange.query,
            session=ctx.conversation_id,
            shown=spoken(request_context.messages),
        )
        self._recalled = block.ids
        return replace(request_context, messages=_informed(request_context.messages, block))

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        """Note the response, with the ids of the turns that the model was shown in its metadata."""
        response = await handler(request_context)
        if self._recalled:
            metadata = response.metadata or {}
            ids = [*metadata.get(RECALLED, ()), *self._recalled]  # some of another memory
            response = replace(response, metadata={**metadata, RECALLED: ids})
        self._exchange.responses.append(response)
        return response

    # ---------------------------------------------------------------------------------------

    def _adapter(self, ctx: RunContext[AgentDepsT] | None) -> Adapter:
        memory = self._memory
        if callable(memory):
            choose = memory
            return Adapter(lambda: choose(ctx), **self._options)  # type: ignore[arg-type]
        return Adapter(memory, **self._options)


@contextmanager
def _function() -> Iterator[None]:
    token = _in_function.set(True)
    try:
        yield
    finally:
        _in_function.reset(token)


def _informed(messages: Sequence[ModelMessage], block: Context) -> list[ModelMessage]:
    """Return copies of the messages with the block after the system prompts at their beginning."""
    if not block:
        return list(messages)
    part = SystemPromptPart(str(block))
    if not messages or not isinstance(messages[0], ModelRequest):
        return [ModelRequest([part]), *messages]
    first = messages[0]
    place = next(
        (n for n, shown in enumerate(first.parts) if not isinstance(shown, SystemPromptPart)),
        len(first.parts),
    )
    return [
        replace(first, parts=[*first.parts[:place], part, *first.parts[place:]]),
        *messages[1:],
    ]
