"""A language model that says what it is told to, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from pydantic import PrivateAttr


def user(text):
    return ChatMessage(role="user", content=text)


def assistant(text):
    return ChatMessage(role="assistant", content=text)


def call(tool, **arguments):
    block = ToolCallBlock(tool_call_id="c1", tool_name=tool, tool_kwargs=arguments)
    return ChatMessage(role="assistant", blocks=[block])


class ScriptedLLM(FunctionCallingLLM):
    """Answers with the replies of a script, one after another."""

    _replies: list[ChatMessage] = PrivateAttr(default_factory=list)
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, *replies: str | ChatMessage) -> ScriptedLLM:
        llm = cls()
        llm._replies = [
            assistant(message) if isinstance(message, str) else message for message in replies
        ]
        return llm

    @property
    def asked(self) -> list[list[ChatMessage]]:
        """The prompts, oldest first."""
        return self._asked

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self._asked.append(list(messages))
        return ChatResponse(message=self._replies.pop(0))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self.chat(messages)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        message = self.chat(messages).message
        words = (message.content or "").split(" ")
        for count, word in enumerate(words, 1):
            so_far = ChatMessage(role="assistant", content=" ".join(words[:count]))
            yield ChatResponse(message=so_far, delta=word if count == 1 else f" {word}")

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        message = self.chat(messages).message

        async def one():
            yield ChatResponse(message=message, delta=message.content or "")

        return one()

    def _prepare_chat_with_tools(  # type: ignore[override]  # what it leaves out is in kwargs
        self, tools, user_msg=None, chat_history=None, **kwargs
    ):
        return {"messages": [*(chat_history or []), *([user_msg] if user_msg else [])]}

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        return [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=cast(dict[str, Any], block.tool_kwargs),
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]

    def complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError("chat engines and agents chat")

    stream_complete = acomplete = astream_complete = complete


def remembered(prompt):
    """Return what stands in the system messages of a prompt, and before the user's words."""
    texts = [m.content or "" for m in prompt if m.role == "system"]
    texts += [b.text for m in prompt if m.role == "user" for b in m.blocks[:-1]]
    return "\n".join(texts)


def asked(prompt):
    """Return the user's words in a prompt."""
    return [m.blocks[-1].text for m in prompt if m.role == "user"]
