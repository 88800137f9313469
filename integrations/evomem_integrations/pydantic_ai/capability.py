"""`EvoMemCapability`: gives an agent a memory across conversations and restarts."""

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
from evomem_integrations.pydantic_ai.messages import (
    RECALLED,
    Exchange,
    open_exchange,
    text_messages,
)

_in_function: ContextVar[bool] = ContextVar("evomem_pydantic_ai_in_function", default=False)
"""Whether a tool or an output function is running: prompts of agents that it calls are not the user's."""


class EvoMemCapability(AbstractCapability[AgentDepsT]):
    """Reads the memory for each model call and writes the exchange after the run.

    Recalled turns are a system prompt of that request only and never become part of the message
    history. An exchange is the user's message that started the run and all answers to it. It becomes
    one turn of the memory, with the conversation's id as its session and the ids of the turns that the
    model was shown. A run that continues after a pause completes its turn. A question that is asked
    again at the same point of a conversation replaces the old one. A failed run writes nothing.

    An agent that a tool or an output function of another agent calls reads the memory and writes
    nothing, because its prompts do not come from the user.
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
            memory: One memory, or a function that returns it for a run, such as
                `lambda ctx: db.memory("acme", ctx.deps.user)`.
            id: The capability's name within the agent.
            header: The text before the recalled turns.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory end the run. If not, they are logged and counted
                (`evomem.adapter.counts`).
            **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
                `trust`, `zone`.

        Raises:
            QueryError: An option is not valid.
        """
        self.id = id
        self._memory = memory
        self._options = {
            "header": header,
            "turn_source": turn_source,
            "strict": strict,
            **options,
        }
        self._exchange = Exchange("", [])  # set for each run by `for_run`
        self._recalled: Sequence[str] = ()
        self._adapter(None)  # checks the options

    @classmethod
    def get_serialization_name(cls) -> str | None:
        """Return None: a memory cannot be named in an agent's specification."""
        return None

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> EvoMemCapability[AgentDepsT]:
        """Return a copy for one run, with the user's message."""
        run = copy.copy(self)
        run._exchange = open_exchange(ctx.prompt, ctx.messages, ctx.run_id, ctx.conversation_id)
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
        with _inside_function():
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
        with _inside_function():
            return await handler(output)

    async def prepare_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Add the recalled turns to the request, but not to stored messages."""
        block = await self._adapter(ctx).arecall(
            self._exchange.query,
            session=ctx.conversation_id,
            shown=text_messages(request_context.messages),
        )
        self._recalled = block.ids
        return replace(request_context, messages=_with_context(request_context.messages, block))

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: WrapModelRequestHandler,
    ) -> ModelResponse:
        """Record the response; its metadata gets the ids of the turns that the model was shown."""
        response = await handler(request_context)
        if self._recalled:
            metadata = response.metadata or {}
            # The metadata may already hold ids of the agent's other memories.
            ids = [*metadata.get(RECALLED, ()), *self._recalled]
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
def _inside_function() -> Iterator[None]:
    token = _in_function.set(True)
    try:
        yield
    finally:
        _in_function.reset(token)


def _with_context(messages: Sequence[ModelMessage], block: Context) -> list[ModelMessage]:
    """Return copies of the messages with the block after the leading system prompts."""
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
