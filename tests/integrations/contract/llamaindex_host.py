"""A program with LlamaIndex: an agent with `EvoMemMemory`, in a new process for each run."""

import asyncio  # annotations are no strings here: LlamaIndex looks for `Context` among them
import gc
from typing import Any

from llama_index.core.agent import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent

from evomem.adapter.contract import Call, Host
from evomem_integrations.llamaindex import EvoMemMemory
from tests.integrations.llamaindex.scripted import ScriptedLLM, assistant, call
from tests.integrations.llamaindex.scripted import user as asked


class Model(ScriptedLLM):
    """Raises what the script says."""

    def chat(self, messages, **kwargs):
        reply: Any = self._replies[0]
        if isinstance(reply, Exception):
            self._replies.pop(0)
            raise reply
        return super().chat(messages, **kwargs)


def look(result: str) -> str:
    """Look something up."""
    return result


async def ask(ctx: Context, result: str) -> str:
    """Do something once a person has agreed."""
    question = InputRequiredEvent()
    await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
    return result


class Agent(Host):
    """`FunctionAgent` with `EvoMemMemory`."""

    def __init__(self, location):
        super().__init__(location)
        self.opened: dict[Any, EvoMemMemory] = {}

    def chat_memory(self, user, thread):
        if (user, thread) not in self.opened:
            self.opened[user, thread] = EvoMemMemory(
                location=self.location,
                namespace=("acme", user),
                session_id=thread,
                encoder="hash",
            )
        return self.opened[user, thread]

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        llm = Model.of(*map(message, replies))
        asyncio.run(self.run(llm, text, self.chat_memory(user, thread), stream))
        return "\n".join(shown.content or "" for shown in llm.asked[-1])

    async def run(self, llm, text, memory, streaming=False):
        agent = FunctionAgent(llm=llm, tools=[look, ask], streaming=streaming)
        handler = agent.run(text, memory=memory)
        pauses = 0
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                pauses += 1
                handler.ctx.send_event(HumanResponseEvent())
        await handler
        return pauses

    def regenerate(self, answer):
        memory = self.chat_memory("alice", "one")
        messages = memory.get_all()
        memory.set(messages[:-2])
        self.say(messages[-2].content or "", answer)

    def edit(self, text, answer):
        memory = self.chat_memory("alice", "one")
        memory.set([*memory.get_all()[:-2], asked(text), assistant(answer)])

    def pause(self, text, reply, answer):
        waits = message(reply, "ask")
        memory = self.chat_memory("alice", "one")
        assert asyncio.run(self.run(Model.of(waits, answer), text, memory)) == 1

    def restart(self):
        self.opened.clear()
        gc.collect()  # the last of them closes the database
        self.db.close()
        return type(self)(self.location)

    def close(self):
        self.db.close()
        for memory in self.opened.values():
            memory.memory._engine.close()


def message(reply: Any, tool: str = "look") -> Any:
    if not isinstance(reply, Call):
        return reply
    calling = call(tool, result=reply.result)
    spoken = assistant(reply.says).blocks if reply.says else []
    return ChatMessage(role="assistant", blocks=[*spoken, *calling.blocks])
