"""A program with Microsoft's Agent Framework: an agent with the provider, and sessions that it keeps."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

from agent_framework import (
    Agent,
    AgentMiddleware,
    AgentSession,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    FunctionTool,
    Message,
)

from evomem.adapter.contract import Call, Host
from evomem_integrations.agent_framework import EvoMemContextProvider

_calls = count()


class Model(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """Gives the replies of a script; keeps what it was shown."""

    def __init__(self, *replies: Any) -> None:
        super().__init__()
        self.replies = list(replies)
        self.shown: list[Any] = []

    def _inner_get_response(self, *, messages, stream, options, **kwargs):
        if stream:
            return self._build_response_stream(self._pieces(messages, options))
        return self._whole(messages, options)

    async def _whole(self, messages, options):
        return ChatResponse(messages=[Message("assistant", self._next(messages, options))])

    async def _pieces(self, messages, options):
        for content in self._next(messages, options):
            texts = [content]
            if content.type == "text":
                words = content.text.replace(" ", " \n").split("\n")
                texts = [Content.from_text(word) for word in words]
            for text in texts:
                yield ChatResponseUpdate(role="assistant", contents=[text])

    def _next(self, messages, options):
        self.shown.append((list(messages), options.get("instructions")))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        thought = Content.from_text_reasoning(text="I think.")
        if not isinstance(reply, Call):
            return [thought, Content.from_text(reply)]
        says = [Content.from_text(reply.says)] if reply.says else []
        arguments = json.dumps({"result": reply.result})
        return [
            *says,
            Content.from_function_call(f"c{next(_calls)}", "look", arguments=arguments),
        ]

    def prompt(self):
        messages, instructions = self.shown[-1]
        return "\n".join([str(instructions), *(message.text for message in messages)])


class Again(AgentMiddleware):
    """Runs an agent again that failed."""

    async def process(self, context, call_next):
        try:
            await call_next()
        except ConnectionError:
            await call_next()


def look(result: str) -> str:
    """Look something up."""
    return result


class Program(Host):
    """Keeps its sessions as JSON."""

    def __init__(self, location, kept=None):
        super().__init__(location)
        self.kept: dict[str, Any] = {} if kept is None else kept

    def agent(self, model, approval="never_require", **options):
        provider = EvoMemContextProvider(lambda session: self.memory(session.state["user"]))
        return Agent(
            model,
            "Be brief.",
            tools=[FunctionTool(name="look", func=look, approval_mode=approval)],
            context_providers=[provider],
            **options,
        )

    def session(self, user="alice", thread="one"):
        if thread in self.kept:
            return AgentSession.from_dict(self.kept[thread])
        session = AgentSession(session_id=thread)
        session.state["user"] = user
        return session

    def run(self, agent, given, user="alice", thread="one", stream=False):
        session = self.session(user, thread)

        async def done():
            if not stream:
                return await agent.run(given, session=session)
            pieces = agent.run(given, session=session, stream=True)
            async for _ in pieces:
                pass
            return await pieces.get_final_response()

        result = asyncio.run(done())
        self.kept[thread] = session.to_dict()
        return result

    def say(self, text, *replies, user="alice", thread="one", stream=False):
        model = Model(*replies)
        self.run(self.agent(model), text, user, thread, stream)
        return model.prompt()

    def retry(self, text, failure, answer):
        self.run(self.agent(Model(failure, answer), middleware=[Again()]), text)

    def regenerate(self, answer):
        question = self.undone()
        self.run(self.agent(Model(answer)), question)

    def edit(self, text, answer):
        self.undone()
        self.run(self.agent(Model(answer)), text)

    def undone(self):
        session = self.session()
        messages = session.state["in_memory"]["messages"]
        while messages:
            last = messages.pop()
            if last.role == "user":
                self.kept["one"] = session.to_dict()
                return last.text
        raise AssertionError("the session is empty")

    def pause(self, text, call, answer):
        agent = self.agent(Model(call, answer), approval="always_require")
        paused = self.run(agent, text)
        [asked] = paused.user_input_requests
        approved = Message("user", [asked.to_function_approval_response(approved=True)])
        assert self.run(agent, approved).text.endswith(answer)

    def restart(self):
        self.close()
        return type(self)(self.location, json.loads(json.dumps(self.kept)))
