"""`run_options`: lets a run read a memory before each model call and write the exchange."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, cast

from agents import Agent, AgentHookContext, ModelResponse, RunConfig, RunContextWrapper, RunHooks
from agents.memory import Session
from agents.run_config import CallModelData, CallModelInputFilter, ModelInputData

from evomem.adapter import HEADER, Adapter
from evomem.memory import Memory
from evomem.pairing import Message
from evomem_integrations.openai_agents.messages import Exchange, Item, open_exchange, text_messages

_ALL_ITEMS = 1_000_000  # a limit on items; None would mean the limit in the session's settings


class RunOptions(TypedDict):
    """Arguments of `Runner.run`, `run_sync` and `run_streamed`."""

    session: Session | None
    run_config: RunConfig
    hooks: RunHooks[Any]


def run_options(
    memory: Memory,
    session: Session | None = None,
    *,
    run_config: RunConfig | None = None,
    header: str = HEADER,
    turn_source: str | None = None,
    strict: bool = False,
    **options: Any,
) -> RunOptions:
    """Return arguments for one run: `await Runner.run(agent, text, **run_options(memory, session))`.

    Recalled turns are added after the instructions of each model call and are not stored. An exchange
    is the user's message and all answers to it. It becomes one turn of the memory, with the session's
    id and the ids of the turns that the model was shown. It is written when the run ends with an
    output. A question that is asked again at the same point of a session, after `pop_item`, replaces
    the old one.

    Args:
        memory: The user's memory.
        session: The session of the conversation. Without a session, the program passes the history in
            the input, and every run adds a turn.
        run_config: The configuration of the run. Its `call_model_input_filter` is called first.
        header: The text before the recalled turns.
        turn_source: The source of the turns that are written (`Turn.source`).
        strict: Whether errors of the memory end the run. If not, they are logged and counted
            (`evomem.adapter.counts`).
        **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
            `trust`, `zone`.

    Raises:
        QueryError: An option is not valid.
    """
    adapter = Adapter(memory, header=header, turn_source=turn_source, strict=strict, **options)
    config = run_config or RunConfig()
    guarded = bool(config.output_guardrails)
    run = _Run(adapter, session, config.call_model_input_filter, guarded)
    config = replace(config, call_model_input_filter=run.add_context)
    hooked = None if session is None else _with_write_hook(session, run.write_answer)
    return {"session": hooked, "run_config": config, "hooks": run}


class _Run(RunHooks[Any]):
    """One run and its messages."""

    def __init__(
        self,
        adapter: Adapter,
        session: Session | None,
        inner: CallModelInputFilter | None,
        guarded: bool,
    ) -> None:
        self._adapter = adapter
        self._session = session
        self._inner = inner
        self._exchange: Exchange | None = None
        self._recalled: list[str] = []
        self._answer: list[Message] = []
        self._guarded = guarded
        self._usage: object = None

    async def on_agent_start(self, context: AgentHookContext[Any], agent: Any) -> None:
        """Reset the state if the same options were used in another run, such as a failed one."""
        if context.usage is not self._usage:  # a run keeps its `usage` through handoffs and pauses
            self._exchange, self._recalled, self._answer = None, [], []
            self._usage = context.usage

    async def add_context(self, data: CallModelData[Any]) -> ModelInputData:
        """Return the input of a model call with recalled turns after the instructions.

        The first call is by the agent that the user talks to. Later calls may be by agents that its
        tools call, whose prompts do not come from the user.
        """
        items = cast(Sequence[Item], data.model_data.input)
        if self._exchange is None:
            self._exchange = await self._open_exchange(items)
        filtered = data.model_data
        if self._inner is not None:
            result = self._inner(data)
            filtered = await result if inspect.isawaitable(result) else result
        block = await self._adapter.arecall(
            open_exchange(items).query,
            session=self._session_id,
            shown=text_messages(cast(Sequence[Item], filtered.input)),
        )
        self._recalled += block.ids
        instructions = "\n\n".join(part for part in (filtered.instructions, str(block)) if part)
        return ModelInputData(filtered.input, instructions or None)

    async def on_llm_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse
    ) -> None:
        """Record the messages that the model writes along with tool calls and handoffs."""
        items = [cast(Item, item) for item in response.to_input_items()]
        if self._exchange and any(item.get("type", "").endswith("_call") for item in items):
            self._exchange.preambles += text_messages(items)

    async def on_agent_end(
        self, context: AgentHookContext[Any], agent: Any, output: object
    ) -> None:
        """Write the exchange, unless output guardrails may still block the answer.

        Output guardrails run after this hook. If there are any, the exchange is written when the
        answer is added to the session, which happens only if they accept it.
        """
        if self._exchange is None:  # a resumed run may end without a model call
            items = (
                await self._session.get_items(_ALL_ITEMS) if self._session else context.turn_input
            )
            self._exchange = open_exchange(cast(Sequence[Item], items), cast(Sequence[Item], items))
        self._answer = self._exchange.messages(output)
        if self._session is None or not (agent.output_guardrails or self._guarded):
            await self.write_answer()

    async def write_answer(self) -> None:
        """Write the exchange if it has an answer."""
        if self._exchange is not None and self._answer:
            answer, self._answer = self._answer, []
            await self._adapter.acapture(answer, session=self._session_id, recalled=self._recalled)

    @property
    def _session_id(self) -> str | None:
        return None if self._session is None else self._session.session_id

    async def _open_exchange(self, items: Sequence[Item]) -> Exchange:
        if self._session is None:
            return open_exchange(items)
        return open_exchange(items, cast(Sequence[Item], await self._session.get_items(_ALL_ITEMS)))


def _with_write_hook(session: Session, write_answer: Callable[[], Awaitable[None]]) -> Session:
    """Return a copy of the session that calls `write_answer` after items were added.

    It has a subclass of the original's class and shares its state, because the SDK treats some session
    classes specially.
    """
    kind: Any = type(session)

    async def add_items(self: Any, items: list[Any]) -> None:
        await kind.add_items(self, items)
        await write_answer()

    hooked: Any = object.__new__(type(kind.__name__, (kind,), {"add_items": add_items}))
    hooked.__dict__ = session.__dict__
    return cast(Session, hooked)
