"""`EvoMemMiddleware`: gives an agent a memory of its conversations across threads and restarts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langgraph.runtime import Runtime
from typing_extensions import NotRequired

from evomem.adapter import HEADER, Adapter
from evomem.memory import Memory
from evomem.records import Context
from evomem_integrations.langchain.tape import (
    RECALLED,
    STRUCTURED,
    Tape,
    after_model_call,
    after_write,
    at_run_end,
    at_run_start,
    is_user,
    split,
    text_messages,
)

Tapes = dict[str, Tape]


def _merged(old: Tapes | None, new: Tapes | None) -> Tapes:
    return {**(old or {}), **(new or {})}


class EvoMemState(AgentState[Any]):
    """The agent's state, with the part of the thread that is not in the memory yet."""

    evomem: NotRequired[Annotated[Tapes, PrivateStateAttr, _merged]]
    """By the name of the middleware: an agent may have several memories."""


class EvoMemMiddleware(AgentMiddleware[EvoMemState, Any, Any]):
    """Searches the memory before each model call and writes the exchange after the run.

    Recalled turns are added to the system prompt of that call; they are not stored in the thread's
    messages or in a checkpoint. Turns that the prompt already holds as messages are left out.

    An exchange is the user's message that started the run and all answers to it. It becomes one turn
    of the memory, with the thread as its session and the ids of the turns that the model was shown. It
    is recorded in a private part of the agent's state, so trimming and summarising the thread's
    messages does not affect it. It is written once, however often a run is retried, interrupted and
    resumed. A regenerated answer, or a message edited under its id, replaces the old one. A failed run
    writes nothing; its question becomes part of the next exchange.

    An agent that another agent calls as a tool reads the memory and writes nothing, because its
    prompts do not come from the user.
    """

    state_schema = EvoMemState

    def __init__(
        self,
        memory: Memory | Callable[[Runtime[Any]], Memory],
        *,
        name: str | None = None,
        header: str = HEADER,
        turn_source: str | None = None,
        strict: bool = False,
        **options: Any,
    ) -> None:
        """Choose the memory and how it is searched.

        Args:
            memory: One memory, or a function that returns it for a run, such as
                `lambda runtime: db.memory("acme", runtime.context.user)`.
            name: Identifies this middleware within the agent; derived from the memory's name if not
                given. Required if an agent has two memories that are chosen by functions.
            header: The text before the recalled turns.
            turn_source: The source of the turns that are written (`Turn.source`).
            strict: Whether errors of the memory end the run. If not, they are logged and counted
                (`evomem.adapter.counts`), and an exchange that could not be written is written after
                the next run.
            **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
                `trust`, `zone`. Where users live in several time zones, give each memory its own:
                `lambda runtime: db.memory("acme", runtime.context.user, zone=runtime.context.zone)`.
        """
        super().__init__()
        self._memory = memory
        self._name = name or _name(type(self).__name__, memory)
        self._options = {
            "header": header,
            "turn_source": turn_source,
            "strict": strict,
            **options,
        }
        self._adapter(None)  # checks the options

    @property
    def name(self) -> str:
        """The name of this middleware in the agent's graph."""
        return self._name

    def before_agent(self, state: EvoMemState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Record the user's message, and write the exchanges that earlier runs did not write."""
        messages = state["messages"]
        if not messages or _is_called_as_tool(runtime):
            return None
        adapter = self._adapter(runtime)
        tape = at_run_start(state.get("evomem", {}).get(self.name), messages, _owner(adapter))
        complete, open_ = split(tape["said"])
        if complete and adapter.capture(complete, session=_thread(runtime)):
            tape = {**tape, "said": open_}
        return self._update(tape)

    async def abefore_agent(
        self, state: EvoMemState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Do as `before_agent`, without blocking the event loop."""
        return await asyncio.to_thread(self.before_agent, state, runtime)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the turns that the memory returns."""
        context = self._adapter(request.runtime).recall(**self._recall_arguments(request))
        return _annotated(handler(_with_context(request, context)), context.ids)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Do as `wrap_model_call`, without blocking the event loop."""
        context = await self._adapter(request.runtime).arecall(**self._recall_arguments(request))
        return _annotated(await handler(_with_context(request, context)), context.ids)

    def after_model(self, state: EvoMemState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Record the model's response before other middleware can change it."""
        tape = state.get("evomem", {}).get(self.name)
        if tape is None or _is_called_as_tool(runtime):
            return None
        return self._update(after_model_call(tape, state["messages"]))

    def after_agent(self, state: EvoMemState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Write the exchange."""
        messages = state["messages"]
        if not messages or _is_called_as_tool(runtime):
            return None
        adapter = self._adapter(runtime)
        tape = state.get("evomem", {}).get(self.name)
        # Other middleware may have ended the run before `before_agent`.
        if tape is None or not tape["said"]:
            tape = at_run_start(tape, messages, _owner(adapter))
        tape = at_run_end(tape, messages, state.get("structured_response"))
        saved = adapter.capture(tape["said"], session=_thread(runtime), recalled=tape["recalled"])
        return self._update(after_write(tape) if saved else tape)

    async def aafter_agent(
        self, state: EvoMemState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Do as `after_agent`, without blocking the event loop."""
        return await asyncio.to_thread(self.after_agent, state, runtime)

    # ---------------------------------------------------------------------------------------

    def _adapter(self, runtime: Runtime[Any] | None) -> Adapter:
        memory = self._memory
        if callable(memory):
            choose = memory
            return Adapter(lambda: choose(runtime), **self._options)  # type: ignore[arg-type]
        return Adapter(memory, **self._options)

    def _update(self, tape: Tape) -> dict[str, Any]:
        return {"evomem": {self.name: tape}}

    def _recall_arguments(self, request: ModelRequest[Any]) -> dict[str, Any]:
        """Return the arguments of `Adapter.recall`; the query is the user's last message."""
        questions = [str(message.text) for message in request.messages if is_user(message)]
        if not questions:  # the messages were trimmed: use the recorded ones
            tapes: Any = request.state.get("evomem", {})
            recorded = tapes[self.name]["said"] if self.name in tapes else ()
            questions = [message["content"] for message in recorded if message["role"] == "user"]
        return {
            "query": questions[-1] if questions else "",
            "session": _thread(request.runtime),
            "shown": text_messages(request.messages),
        }


def _name(kind: str, memory: Memory | Callable[..., Memory]) -> str:
    """Return a default name, which differs between middlewares with different memories."""
    if not isinstance(memory, Memory):
        return kind
    labels = json.dumps(memory.namespace).encode()
    return f"{kind}_{hashlib.blake2b(labels, digest_size=4).hexdigest()}"


def _owner(adapter: Adapter) -> str:
    """Return the memory's namespace as JSON; empty if the memory cannot be opened."""
    try:
        return json.dumps(adapter.memory.namespace)
    except Exception:  # the error is counted where the memory is read and written
        if adapter.strict:
            raise
        return ""


def _thread(runtime: Runtime[Any]) -> str | None:
    """Return the thread's id, None without a checkpointer."""
    return runtime.execution_info.thread_id if runtime.execution_info else None


def _is_called_as_tool(runtime: Runtime[Any]) -> bool:
    """Return whether this agent runs inside a tool of another one."""
    place = runtime.execution_info.checkpoint_ns if runtime.execution_info else ""
    return any(part.startswith("tools:") for part in place.split("|")[:-1])


def _with_context(request: ModelRequest[Any], context: Context) -> ModelRequest[Any]:
    """Return the request with the recalled turns after the system prompt."""
    if not context:
        return request
    prompt = request.system_message
    if prompt is None:
        return request.override(system_message=SystemMessage(str(context)))
    if isinstance(prompt.content, str):
        content: Any = f"{prompt.content}\n\n{context}"
    else:
        content = [*prompt.content, {"type": "text", "text": str(context)}]
    return request.override(system_message=prompt.model_copy(update={"content": content}))


def _annotated(response: ModelResponse[Any], ids: Sequence[str]) -> ModelResponse[Any]:
    """Return the response with the ids of the turns that the model was shown in its metadata.

    The metadata also says whether the response contains structured output. It is stored in
    checkpoints and not sent to a model again.
    """
    structured = response.structured_response is not None
    if not ids and not structured:
        return response
    messages: list[BaseMessage] = []
    for message in response.result:
        if isinstance(message, AIMessage):
            known = message.response_metadata.get(RECALLED, ())  # from other memories of the agent
            metadata = {**message.response_metadata}
            if ids:
                metadata[RECALLED] = [*known, *ids]
            if structured:
                metadata[STRUCTURED] = True
            message = message.model_copy(update={"response_metadata": metadata})
        messages.append(message)
    return replace(response, result=messages)
