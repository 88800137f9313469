"""`run_options`: a run that reads a memory before each model call, and writes the exchange."""

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
from evomem_integrations.openai_agents.messages import Exchange, Item, begun, said

_ALL = 1_000_000  # items of a session; None would mean the limit in its settings


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

    Recalled turns are added after the instructions of each model call and not stored. An
    exchange is what the user said and everything that was answered, one turn of the memory with the
    session's id and the ids of the turns that the model was shown. It is written when the run ends
    with an output. A question asked again in the same place of a session, after `pop_item`, takes the
    place of the old one.

    Args:
        memory: The user's memory.
        session: The session of the conversation. Without one, the program hands over the history in
            the input, and every run adds a turn.
        run_config: The configuration of the run. Its `call_model_input_filter` is called first.
        header: The text before the recalled turns.
        turn_source: The source of the turns that are written (`Turn.source`).
        strict: Whether errors of the memory end the run. If not, they are logged and counted
            (`evomem.adapter.counts`).
        **options: For `MemoryView.context`: `max_tokens`, `k`, `mode`, `count_tokens`, filters,
            `trust`, `zone`.

    Raises:
        QueryError: An option makes no sense.
    """
    adapter = Adapter(memory, header=header, turn_source=turn_source, strict=strict, **options)
    config = run_config or RunConfig()
    guarded = bool(config.output_guardrails)
    run = _Run(adapter, session, config.call_model_input_filter, guarded)
    config = replace(config, call_model_input_filter=run.informed)
    watched = None if session is None else _watched(session, run.saved)
    return {"session": watched, "run_config": config, "hooks": run}


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
        """Forget another run that was given the same options, such as one that failed."""
        if context.usage is not self._usage:  # a run has one, through handoffs and pauses
            self._exchange, self._recalled, self._answer = None, [], []
            self._usage = context.usage

    async def informed(self, data: CallModelData[Any]) -> ModelInputData:
        """Return the input of a model call with what the memory knows after the instructions.

        The first call is one of the agent that the user talks to; later ones may be of agents that
        its tools call, whose prompts are not the user's words.
        """
        items = cast(Sequence[Item], data.model_data.input)
        if self._exchange is None:
            self._exchange = await self._begun(items)
        given = data.model_data
        if self._inner is not None:
            result = self._inner(data)
            given = await result if inspect.isawaitable(result) else result
        block = await self._adapter.arecall(
            begun(items).query, session=self._place, shown=said(cast(Sequence[Item], given.input))
        )
        self._recalled += block.ids
        instructions = "\n\n".join(part for part in (given.instructions, str(block)) if part)
        return ModelInputData(given.input, instructions or None)

    async def on_llm_end(
        self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse
    ) -> None:
        """Note the model's messages before it calls tools or hands over."""
        items = [cast(Item, item) for item in response.to_input_items()]
        if self._exchange and any(item.get("type", "").endswith("_call") for item in items):
            self._exchange.preambles += said(items)

    async def on_agent_end(
        self, context: AgentHookContext[Any], agent: Any, output: object
    ) -> None:
        """Write the exchange if nothing can block the answer any more.

        Output guardrails judge it after this hook. Where there are some, it is written when the
        session is given the answer, which happens if they let it pass.
        """
        if self._exchange is None:  # a resumed run may end without a model call
            given = self._session.get_items(_ALL) if self._session else None
            items = await given if given is not None else context.turn_input
            self._exchange = begun(cast(Sequence[Item], items), cast(Sequence[Item], items))
        self._answer = self._exchange.messages(output)
        if self._session is None or not (agent.output_guardrails or self._guarded):
            await self.saved()

    async def saved(self) -> None:
        """Write the exchange if it has an answer."""
        if self._exchange is not None and self._answer:
            answer, self._answer = self._answer, []
            await self._adapter.acapture(answer, session=self._place, recalled=self._recalled)

    @property
    def _place(self) -> str | None:
        return None if self._session is None else self._session.session_id

    async def _begun(self, items: Sequence[Item]) -> Exchange:
        if self._session is None:
            return begun(items)
        return begun(items, cast(Sequence[Item], await self._session.get_items(_ALL)))


def _watched(session: Session, saved: Callable[[], Awaitable[None]]) -> Session:
    """Return the session as one that says when it was given items.

    It has the class and the state of the original: the SDK treats some classes in their own ways.
    """
    kind: Any = type(session)

    async def add_items(self: Any, items: list[Any]) -> None:
        await kind.add_items(self, items)
        await saved()

    watched: Any = object.__new__(type(kind.__name__, (kind,), {"add_items": add_items}))
    watched.__dict__ = session.__dict__
    return cast(Session, watched)
