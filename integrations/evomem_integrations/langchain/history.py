"""`EvoMemChatMessageHistory`: a session of a memory as LangChain's (older) chat history."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from evomem.errors import NotFound
from evomem.memory import Memory
from evomem.records import Turn
from evomem_integrations.langchain.exchanges import Exchange, exchanges


class EvoMemChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, exactly as they were added.

    For code that uses `RunnableWithMessageHistory`; agents use `EvoMemMiddleware`. A user's message
    and what follows it are read as one exchange if they are added together. Messages are kept as
    JSON in the turn's metadata, which holds 64 KiB. `messages` contains nothing else: to search, use an `EvoMemRetriever` on the same memory.
    """

    def __init__(self, memory: Memory, session: str, *, purge: bool = False) -> None:
        """Write to one session.

        Args:
            memory: Whose memory it is.
            session: The conversation.
            purge: Whether `clear` purges the session; otherwise it only hides it.
        """
        self.memory = memory
        self.session = session
        self.purge = purge

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # declared as an attribute
        """All messages of the session, oldest first."""
        records = self.memory.history(session=self.session)
        kept = [each for record in records for each in record.turn.metadata.get("messages", ())]
        return messages_from_dict(kept)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages in order.

        Raises:
            TurnError: A message cannot be stored; nothing was written.
        """
        self.memory.add_many([self._turn(exchange) for exchange in exchanges(messages)])

    def clear(self) -> None:
        """Hide the session's turns: their text stays on disk (`Memory.delete`).

        With `purge`, they are purged (`Memory.expire`), including hidden ones.
        """
        if self.purge:
            self.memory.expire(session=self.session)
            return
        for record in self.memory.history(session=self.session):
            try:
                self.memory.delete(record.id)
            except NotFound:  # somebody else was quicker
                continue

    def _turn(self, exchange: Exchange) -> Turn:
        user, assistant = exchange.user, exchange.reply
        if not (user.strip() or assistant.strip()):  # a turn needs text
            assistant = exchange.anything
        return Turn(
            user=user,
            assistant=assistant,
            id=uuid.uuid4().hex,
            session=self.session,
            metadata={"messages": [message_to_dict(message) for message in exchange.messages]},
        )
