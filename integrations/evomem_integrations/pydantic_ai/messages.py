"""The messages of a run of Pydantic AI, in the form that `evomem.adapter` takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextContent,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_core import to_json

from evomem.pairing import Message

RECALLED = "evomem_recalled"
"""Metadata of a model's response: ids of the turns that it was shown."""


@dataclass
class Exchange:
    """A question, and the responses of the run or runs that answer it."""

    id: str
    """Identifies the question's position in the conversation: asked again there, it has the same."""
    questions: list[str]
    responses: list[ModelResponse] = field(default_factory=list)

    @property
    def query(self) -> str:
        """The text of the user's last message."""
        return self.questions[-1] if self.questions else ""

    @property
    def recalled(self) -> list[str]:
        """The ids of the turns that the model was shown."""
        return [
            id for response in self.responses for id in (response.metadata or {}).get(RECALLED, ())
        ]

    def messages(self, output: object, run: str | None) -> list[Message]:
        """Return the exchange as messages.

        Apart from the output, only responses with tool calls are included. Any other response was
        rejected by validation, and the model was asked again.

        Args:
            output: The output of the run.
            run: The id of the run.
        """
        messages: list[Message] = [{"role": "user", "content": text} for text in self.questions]
        if messages:
            messages[0] = {**messages[0], "id": self.id}
        for response in self.responses:
            if response.tool_calls:
                messages.append({"role": "assistant", "content": response.text or ""})
        return [*messages, {"role": "assistant", "content": self._answer(output), "id": run}]

    def _answer(self, output: object) -> str:
        if isinstance(output, str):
            return output
        if output is None or isinstance(output, DeferredToolRequests | BinaryContent):
            return (self.responses[-1].text or "") if self.responses else ""
        return to_json(output, fallback=str).decode()


def open_exchange(
    prompt: str | Sequence[UserContent] | None,
    history: Sequence[ModelMessage],
    run: str | None,
    conversation: str | None,
) -> Exchange:
    """Return the exchange that a run starts, or resumes if it has no prompt.

    Unanswered questions at the end of the history are part of the exchange.
    """
    start = len(history)
    if prompt is None:
        start = max(
            (n + 1 for n, message in enumerate(history) if _has_user_text(message)), default=start
        )
    while start and _has_user_text(history[start - 1]):
        start -= 1
    questions = [text for message in history[start:] for text in _user_texts(message)]
    return Exchange(
        _id(history[:start], history[start:], run, conversation),
        questions if prompt is None else [*questions, text_of(prompt)],
        [message for message in history[start:] if isinstance(message, ModelResponse)],
    )


def text_messages(messages: Sequence[ModelMessage]) -> list[Message]:
    """Return the messages of the user and the assistant."""
    turns: list[Message] = []
    for message in messages:
        turns += [{"role": "user", "content": text} for text in _user_texts(message)]
        if isinstance(message, ModelResponse):
            turns.append({"role": "assistant", "content": message.text or ""})
    return turns


def text_of(content: str | Sequence[UserContent]) -> str:
    """Return the text of a prompt, without images and other files."""
    if isinstance(content, str):
        return content
    texts = (part.content if isinstance(part, TextContent) else part for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


def _user_texts(message: ModelMessage) -> Iterator[str]:
    """Yield the user's texts in a message; texts next to tool results come from the tools."""
    if isinstance(message, ModelRequest) and not any(
        isinstance(part, ToolReturnPart) for part in message.parts
    ):
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                yield text_of(part.content)


def _has_user_text(message: ModelMessage) -> bool:
    return any(True for _ in _user_texts(message))


def _id(
    before: Sequence[ModelMessage],
    exchange: Sequence[ModelMessage],
    run: str | None,
    conversation: str | None,
) -> str:
    """Return the id of an exchange: from the run before it, or from its own run if it is the first.

    A history without responses does not mean that the conversation has none, since not all programs
    pass it. A first question therefore never replaces another.
    """
    answers = [message for message in before if isinstance(message, ModelResponse)]
    if answers and answers[-1].run_id and answers[-1].conversation_id == conversation:
        return f"after {answers[-1].run_id}"
    return (exchange[0].run_id if exchange else None) or str(run)
