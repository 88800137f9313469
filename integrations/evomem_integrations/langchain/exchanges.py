"""LangChain messages as exchanges: what the user said, and what was answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage


@dataclass
class Exchange:
    """A user's messages and all that follows them until the user speaks again."""

    messages: list[BaseMessage] = field(default_factory=list)

    @property
    def user(self) -> str:
        """What the user said; a message that was sent twice in a row counts once."""
        said = [str(message.text) for message in self.messages if isinstance(message, HumanMessage)]
        return "\n".join(text for text in dict.fromkeys(said) if text.strip())

    @property
    def reply(self) -> str:
        """The last words of the model: what it says between tool calls is not the answer."""
        said = [str(message.text) for message in self.messages if isinstance(message, AIMessage)]
        return next((text for text in reversed(said) if text.strip()), "")

    @property
    def anything(self) -> str:
        """Some text that stands for messages in which neither side says anything."""
        texts = [str(message.text) for message in self.messages if message.text.strip()]
        return "\n".join(texts) or f"({', '.join(message.type for message in self.messages)})"


def exchanges(messages: Iterable[BaseMessage]) -> list[Exchange]:
    """Return messages in groups: a new one begins where the user speaks after an answer."""
    groups: list[Exchange] = []
    answered = True
    for message in messages:
        if isinstance(message, HumanMessage) and answered or not groups:
            groups.append(Exchange())
            answered = False
        groups[-1].messages.append(message)
        answered = answered or isinstance(message, AIMessage | ToolMessage)
    return groups
