"""Programs with LangChain: an agent with the middleware, and a chain with a chat history."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from evomem.adapter.contract import Host
from evomem_integrations.langchain import EvoMemChatMessageHistory, EvoMemMiddleware
from tests.integrations.langchain.scripted import Scripted


@tool
def look(result: str) -> str:
    """Look something up."""
    return result


@dataclass
class User:
    name: str


class Agent(Host):
    """`create_agent` with `EvoMemMiddleware` and a checkpointer."""

    def __init__(self, location, saver=None):
        super().__init__(location)
        self.saver = saver or InMemorySaver()
        self.model = Scripted(replies=[], shown=[])

    def agent(self, *more):
        memory = EvoMemMiddleware(lambda runtime: self.memory(runtime.context.name))
        return create_agent(
            self.model,
            [look],
            middleware=[memory, *more],
            context_schema=User,
            checkpointer=self.saver,
        )

    def run(self, agent, given, user="alice", thread="one", config=None):
        place: Any = config or {"configurable": {"thread_id": thread}}
        agent.invoke(given, place, context=User(user))
        return self.model.prompt()

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        self.model.replies = list(replies)
        given: Any = {"messages": [HumanMessage(text)]}
        if not stream:
            return self.run(self.agent(), given, user, thread)
        place: Any = {"configurable": {"thread_id": thread}}
        for _ in self.agent().stream(given, place, context=User(user), stream_mode="messages"):
            pass
        return self.model.prompt()

    def retry(self, text, failure, answer):
        self.model.replies = [failure, answer]
        agent = self.agent(ModelRetryMiddleware(max_retries=2, initial_delay=0))
        self.run(agent, {"messages": [HumanMessage(text)]})

    def regenerate(self, answer):
        self.model.replies = [answer]
        self.run(self.agent(), None, config=self.before_model().config)

    def edit(self, text, answer):
        self.model.replies = [answer]
        before = self.before_model()
        edited = HumanMessage(text, id=before.values["messages"][-1].id)
        config = self.agent().update_state(before.config, {"messages": [edited]})
        self.run(self.agent(), None, config=config)

    def before_model(self):
        place: Any = {"configurable": {"thread_id": "one"}}
        steps = self.agent().get_state_history(place)
        return next(
            step
            for step in steps
            if step.next == ("model",) and isinstance(step.values["messages"][-1], HumanMessage)
        )

    def pause(self, text, call, answer):
        self.model.replies = [call, answer]
        agent = self.agent(HumanInTheLoopMiddleware(interrupt_on={"look": True}))
        self.run(agent, {"messages": [HumanMessage(text)]})
        assert self.model.replies == [answer]
        self.run(agent, Command(resume={"decisions": [{"type": "approve"}]}))

    def restart(self):
        self.close()
        return type(self)(self.location, self.saver)


class Chain(Host):
    """`RunnableWithMessageHistory` with `EvoMemChatMessageHistory`."""

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        model = Scripted(replies=list(replies), shown=[])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LangChain deprecates the class
            chain: Any = RunnableWithMessageHistory(
                model,
                lambda session_id: EvoMemChatMessageHistory(self.memory(user), session_id),
            )
            place: Any = {"configurable": {"session_id": thread}}
            if stream:
                list(chain.stream(text, place))
            else:
                chain.invoke(text, place)
        return model.prompt()
