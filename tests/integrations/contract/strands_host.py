"""A program with Strands: an agent with the store's manager, and histories that it keeps."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

from strands import Agent, tool
from strands.hooks import AfterModelCallEvent, BeforeToolCallEvent
from strands.models import Model as BaseModel

from evomem.adapter.contract import Call, Host
from evomem_integrations.strands import EvoMemMemoryStore

_calls = count()


class Model(BaseModel):
    """Gives the replies of a script; keeps what it was shown."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.shown: list[Any] = []

    def update_config(self, **config: Any) -> None:
        """Change nothing."""

    def get_config(self):
        return {}

    def structured_output(self, *args: Any, **kwargs: Any):
        raise NotImplementedError

    async def stream(self, messages, tool_specs=None, system_prompt=None, **kwargs):
        self.shown.append((json.loads(json.dumps(messages)), system_prompt))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        says = reply.says if isinstance(reply, Call) else reply
        yield {"messageStart": {"role": "assistant"}}
        if says:
            yield {"contentBlockStart": {"start": {}}}
            for piece in re.findall(r"\S*\s*", says):
                yield {"contentBlockDelta": {"delta": {"text": piece}}}
            yield {"contentBlockStop": {}}
        if isinstance(reply, Call):
            call = {"toolUseId": f"c{next(_calls)}", "name": "look"}
            given = {"input": json.dumps({"result": reply.result})}
            yield {"contentBlockStart": {"start": {"toolUse": call}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": given}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if isinstance(reply, Call) else "end_turn"}}

    def prompt(self):
        messages, system = self.shown[-1]
        texts = [b.get("text", "") for message in messages for b in message["content"]]
        return "\n".join([str(system), *texts])


@tool
def look(result: str) -> str:
    """Look something up."""
    return result


class Program(Host):
    """Keeps the messages of each conversation."""

    def __init__(self, location, kept=None):
        super().__init__(location)
        self.kept: dict[str, list[Any]] = {} if kept is None else kept
        self.stores: dict[str, EvoMemMemoryStore] = {}

    def agent(self, model, user="alice", thread="one", **options) -> Any:
        if thread not in self.stores:
            self.stores[thread] = EvoMemMemoryStore(self.memory(user), session=thread)
        return Agent(
            model=model,
            messages=self.kept.setdefault(thread, []),
            tools=[look],
            system_prompt="Be brief.",
            memory_manager=self.stores[thread].manager(search_tool_config=False),
            retry_strategy=None,
            callback_handler=None,
            **options,
        )

    def run(self, agent, given, thread="one"):
        try:
            return agent(given)
        finally:
            self.kept[thread] = agent.messages

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        model = Model(*replies)
        self.run(self.agent(model, user, thread), text, thread)
        return model.prompt()

    def retry(self, text, failure, answer):
        agent = self.agent(Model(failure, answer))

        def again(event):
            event.retry = isinstance(event.exception, ConnectionError)

        agent.add_hook(again, AfterModelCallEvent)
        self.run(agent, text)

    def regenerate(self, answer):
        question = self.undone()
        self.run(self.agent(Model(answer)), question)

    def edit(self, text, answer):
        self.undone()
        self.run(self.agent(Model(answer)), text)

    def undone(self):
        *self.kept["one"], question, _ = self.kept["one"]
        return question["content"][0]["text"]

    def pause(self, text, call, answer):
        agent = self.agent(Model(call, answer))

        def approve(event):
            event.interrupt("look", reason="May it?")

        agent.add_hook(approve, BeforeToolCallEvent)
        paused = self.run(agent, text)
        [asked] = paused.interrupts
        response = {"interruptResponse": {"interruptId": asked.id, "response": "yes"}}
        assert str(self.run(agent, [response])).strip() == answer

    def restart(self):
        self.close()
        return type(self)(self.location, self.kept)
