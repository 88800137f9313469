"""A chat model for LangChain that follows a script."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from evomem.adapter.contract import Call


class Scripted(BaseChatModel):
    """Gives the replies of a script, or what a function makes of the messages; keeps what it was shown."""

    replies: list[Any] = []
    answer: Any = None
    shown: list[Any] = []

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._next(messages)
        if message.tool_calls:
            yield ChatGenerationChunk(
                message=AIMessageChunk(**message.model_dump(exclude={"type"}))
            )
            return
        for word in message.text.replace(" ", " \n").split("\n"):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    def _next(self, messages):
        self.shown.append(messages)
        reply = self.answer(messages) if self.answer else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Call):
            call = {"name": "look", "args": {"result": reply.result}, "id": f"c{len(self.shown)}"}
            return AIMessage(reply.says, tool_calls=[call])
        return reply if isinstance(reply, AIMessage) else AIMessage(reply)

    def prompt(self):
        return "\n".join(message.text for message in self.shown[-1])
