"""A program with Pydantic AI: an agent with `EvoMemCapability`, and histories that it keeps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from evomem.adapter.contract import Call, Host
from evomem_integrations.pydantic_ai import EvoMemCapability


class Script:
    """Gives replies; keeps what it was shown."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.shown: list[Any] = []

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(self.whole, stream_function=self.pieces)

    def whole(self, messages, info):
        reply = self.next(messages)
        if not isinstance(reply, Call):
            return ModelResponse([TextPart(reply)])
        says = [TextPart(reply.says)] if reply.says else []
        return ModelResponse([*says, ToolCallPart("look", {"result": reply.result})])

    async def pieces(self, messages, info):
        reply = self.next(messages)
        if isinstance(reply, Call):
            yield reply.says
            yield {1: DeltaToolCall(name="look", json_args=f'{{"result": "{reply.result}"}}')}
        else:
            for word in reply.replace(" ", " \n").split("\n"):
                yield word

    def next(self, messages):
        self.shown.append(messages)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def prompt(self):
        parts = [part for message in self.shown[-1] for part in message.parts]
        return "\n".join(str(getattr(part, "content", "")) for part in parts)


def look(result: str) -> str:
    """Look something up."""
    return result


@dataclass
class User:
    name: str


class Program(Host):
    """Keeps the history of each conversation, and nothing else."""

    def __init__(self, location, kept=None):
        super().__init__(location)
        self.kept: dict[str, list[ModelMessage]] = {} if kept is None else kept

    def agent(self, model, **options):
        memory = EvoMemCapability[User](lambda ctx: self.memory(ctx.deps.name))
        agent: Any = Agent(
            model,
            deps_type=User,
            output_type=[str, DeferredToolRequests],
            system_prompt="Be brief.",
            instructions="Be kind.",
            capabilities=[memory],
        )
        agent.tool_plain(**options)(look)
        return agent

    def history(self, thread="one"):
        return self.kept.get(thread, [])

    def run(self, agent, text, history, user="alice", thread="one", **options):
        options |= {"message_history": history, "conversation_id": thread}
        result = asyncio.run(agent.run(text, deps=User(user), **options))
        self.kept[thread] = result.all_messages()
        return result

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        script = Script(*replies)
        agent = self.agent(script.model)
        if stream:
            asyncio.run(self.stream(agent, text, user, thread))
        else:
            self.run(agent, text, self.history(thread), user, thread)
        return script.prompt()

    async def stream(self, agent, text, user, thread):
        options = {"message_history": self.history(thread), "conversation_id": thread}
        async with agent.run_stream(text, deps=User(user), **options) as result:
            async for _ in result.stream_text():
                pass
        self.kept[thread] = result.all_messages()

    def retry(self, text, failure, answer):
        failing, working = Script(failure), Script(answer)
        model = FallbackModel(failing.model, working.model, fallback_on=(type(failure),))
        self.run(self.agent(model), text, self.history())

    def regenerate(self, answer):
        history = self.history()
        question = history[-2].parts[-1].content
        self.run(self.agent(Script(answer).model), question, history[:-2])

    def edit(self, text, answer):
        self.run(self.agent(Script(answer).model), text, self.history()[:-2])

    def pause(self, text, call, answer):
        agent = self.agent(Script(call, answer).model, requires_approval=True)
        paused = self.run(agent, text, self.history())
        approvals: dict[str, Any] = {call.tool_call_id: True for call in paused.output.approvals}
        results = DeferredToolResults(approvals=approvals)
        resumed = self.run(agent, None, self.history(), deferred_tool_results=results)
        assert resumed.output == answer

    def restart(self):
        self.close()
        return type(self)(self.location, self.kept)
