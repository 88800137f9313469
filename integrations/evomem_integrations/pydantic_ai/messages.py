"""What a run of Pydantic AI said, as messages for `evomem.adapter`."""

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
    """The same for a question that is asked again in the same place of a conversation."""
    asked: list[str]
    responses: list[ModelResponse] = field(default_factory=list)

    @property
    def query(self) -> str:
        """What the user said last."""
        return self.asked[-1] if self.asked else ""

    @property
    def recalled(self) -> list[str]:
        """The ids of the turns that the model was shown."""
        return [
            id for response in self.responses for id in (response.metadata or {}).get(RECALLED, ())
        ]

    def messages(self, output: object, run: str | None) -> list[Message]:
        """Return the exchange as messages.

        Beside the output, only responses that call tools were shown to the user: any other was
        rejected, and the model asked again.

        Args:
            output: The output of the run `run`.
            run: The run's id.
        """
        messages: list[Message] = [{"role": "user", "content": text} for text in self.asked]
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


def begun(
    prompt: str | Sequence[UserContent] | None,
    history: Sequence[ModelMessage],
    run: str | None,
    conversation: str | None,
) -> Exchange:
    """Return the exchange that a run begins, or continues with if it has no prompt.

    Unanswered questions at the end of the history are part of it.
    """
    start = len(history)
    if prompt is None:
        start = max((n + 1 for n, message in enumerate(history) if _asks(message)), default=start)
    while start and _asks(history[start - 1]):
        start -= 1
    asked = [text for message in history[start:] for text in _asked(message)]
    return Exchange(
        _id(history[:start], history[start:], run, conversation),
        asked if prompt is None else [*asked, text_of(prompt)],
        [message for message in history[start:] if isinstance(message, ModelResponse)],
    )


def spoken(messages: Sequence[ModelMessage]) -> list[Message]:
    """Return what the user and the assistant said."""
    turns: list[Message] = []
    for message in messages:
        turns += [{"role": "user", "content": text} for text in _asked(message)]
        if isinstance(message, ModelResponse):
            turns.append({"role": "assistant", "content": message.text or ""})
    return turns


def text_of(content: str | Sequence[UserContent]) -> str:
    """Return the text of a prompt, without pictures and other files."""
    if isinstance(content, str):
        return content
    texts = (part.content if isinstance(part, TextContent) else part for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


def _asked(message: ModelMessage) -> Iterator[str]:
    """Yield the user's texts in a message; texts beside tools' results are the tools'."""
    if isinstance(message, ModelRequest) and not any(
        isinstance(part, ToolReturnPart) for part in message.parts
    ):
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                yield text_of(part.content)


def _asks(message: ModelMessage) -> bool:
    return any(True for _ in _asked(message))


def _id(
    before: Sequence[ModelMessage],
    begins: Sequence[ModelMessage],
    run: str | None,
    conversation: str | None,
) -> str:
    """Return what names an exchange: the run before it, or the run that began it if it is the first.

    A history without responses does not say that the conversation has none: not all programs hand
    it over. So a first question is never taken for another one.
    """
    answers = [message for message in before if isinstance(message, ModelResponse)]
    if answers and answers[-1].run_id and answers[-1].conversation_id == conversation:
        return f"after {answers[-1].run_id}"
    return (begins[0].run_id if begins else None) or str(run)
