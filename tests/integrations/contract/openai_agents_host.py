"""A program with the OpenAI Agents SDK: an agent, `run_options`, and sessions in a file."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

from agents import (
    Agent,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
)
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

from evomem.adapter.contract import Call, Host
from evomem_integrations.openai_agents import run_options

_calls = count()


def step(reply: Any) -> Any:
    if isinstance(reply, Exception):
        return ModelStep.raise_error(reply)
    if not isinstance(reply, Call):
        return [assistant_message(reply, item_id="__fake_id__")]
    says = [assistant_message(reply.says, item_id="__fake_id__")] if reply.says else []
    call = function_call("look", {"result": reply.result}, call_id=f"call-{next(_calls)}")
    return [*says, call]


def scripted(*replies: Any) -> ScriptedModel:
    return ScriptedModel([step(reply) for reply in replies])


def prompt(model: ScriptedModel) -> str:
    call = model.last_call
    assert call is not None
    return f"{call.system_instructions}\n{json.dumps(call.input, default=str)}"


def look(result: str) -> str:
    """Look something up."""
    return result


class Program(Host):
    """Keeps its sessions beside the memory."""

    def __init__(self, location):
        super().__init__(location)
        self.sessions: dict[str, SQLiteSession] = {}

    def session(self, thread):
        if thread not in self.sessions:
            self.sessions[thread] = SQLiteSession(thread, f"{self.location}.sessions")
        return self.sessions[thread]

    def agent(self, model, **options):
        return Agent("assistant", model=model, tools=[function_tool(look, **options)])

    def options(self, user="alice", thread="one", **more) -> Any:
        config = RunConfig(tracing_disabled=True, **more)
        return run_options(self.memory(user), self.session(thread), run_config=config)

    def run(self, agent, given, *place, **more):
        return asyncio.run(Runner.run(agent, given, **self.options(*place, **more)))

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        model = scripted(*replies)
        if stream:
            asyncio.run(self.stream(self.agent(model), text, user, thread))
        else:
            self.run(self.agent(model), text, user, thread)
        return prompt(model)

    async def stream(self, agent, text, user, thread):
        result = Runner.run_streamed(agent, text, **self.options(user, thread))
        async for _ in result.stream_events():
            pass

    def retry(self, text, failure, answer):
        retry = ModelRetrySettings(max_retries=1, policy=lambda _: True)
        model = scripted(failure, answer)
        self.run(self.agent(model), text, model_settings=ModelSettings(retry=retry))
        model.assert_complete()

    def regenerate(self, answer):
        question = asyncio.run(self.undone())
        self.run(self.agent(scripted(answer)), question)

    def edit(self, text, answer):
        asyncio.run(self.undone())
        self.run(self.agent(scripted(answer)), text)

    async def undone(self):
        while item := await self.session("one").pop_item():
            if item.get("role") == "user":
                return item["content"]
        raise AssertionError("the session is empty")

    def pause(self, text, call, answer):
        agent = self.agent(scripted(call, answer), needs_approval=True)
        paused = self.run(agent, text)
        state = paused.to_state()
        [asked] = paused.interruptions
        state.approve(asked)
        assert self.run(agent, state).final_output == answer

    def restart(self):
        self.close()
        for session in self.sessions.values():
            session.close()
        return type(self)(self.location)
