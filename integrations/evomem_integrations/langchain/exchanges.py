"""LangChain messages as exchanges: what the user said, and what was answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from evomem.pairing import joined


@dataclass
class Exchange:
    """A user's messages and all that follows them until the user speaks again."""

    messages: list[BaseMessage] = field(default_factory=list)

    @property
    def user(self) -> str:
        """What the user said (`evomem.pairing.joined`)."""
        return self._said(HumanMessage)

    @property
    def reply(self) -> str:
        """Everything that the model said: before, between and after calls of tools."""
        return self._said(AIMessage)

    def _said(self, kind: type[BaseMessage]) -> str:
        own = [message for message in self.messages if isinstance(message, kind)]
        return joined([str(message.text) for message in own], [message.id for message in own])

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
