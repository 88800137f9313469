"""`EvoMemChatMessageHistory`: a session of a memory as LangChain's legacy chat history."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from evomem.adapter import Adapter, spoken, write_turn
from evomem.errors import NotFound
from evomem.memory import Memory
from evomem.pairing import exchanges
from evomem.records import Record, Turn
from evomem_integrations.langchain.kept import packed, unpacked
from evomem_integrations.langchain.tape import text_messages

MESSAGES = "messages"
"""Metadata key: the messages that were added, as LangChain's JSON."""


class EvoMemChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, as they were added.

    For code that uses `RunnableWithMessageHistory`; agents use `EvoMemMiddleware`. A user's message
    and the messages after it are one exchange of the memory. Messages that are added later without a
    question belong to the last exchange. Messages are stored as JSON in the turn's metadata; a text
    that exceeds the limits of a turn (262,144 characters of a side, 64 KiB of everything else) is cut
    and marked as cut. `messages` holds only what was added: to search, use an `EvoMemRetriever` on
    the same memory.
    """

    def __init__(
        self, memory: Memory, session: str, *, purge: bool = False, strict: bool = False
    ) -> None:
        """Choose the session.

        Args:
            memory: The user's memory.
            session: The name of the conversation.
            purge: Whether `clear` purges the session; otherwise it only hides it.
            strict: Whether errors of the memory are raised. If not, they are logged and counted
                (`evomem.adapter.counts`): a history that cannot be read is empty.
        """
        self.memory = memory
        self.session = session
        self.purge = purge
        self._adapter = Adapter(memory, strict=strict)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # declared as an attribute
        """All messages of the session, oldest first."""
        with self._adapter.degrading("failed_reads"):
            return [message for record in self._records() for message in _messages(record)]
        return []

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages in order."""
        if not messages:
            return
        with self._adapter.degrading("failed_writes"):
            last = self._open(messages)
            for turn in self._turns([*(_messages(last) if last else ()), *messages]):
                if last and turn.content == last.turn.content:  # only messages without text are new
                    self.memory.annotate(last.id, turn.metadata)
                else:
                    write_turn(self.memory, turn, last.id if last else None)
                last = None

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
            except NotFound:  # already deleted by someone else
                continue

    # ---------------------------------------------------------------------------------------

    def _records(self) -> list[Record]:
        records = self.memory.history(session=self.session)
        return [record for record in records if MESSAGES in record.turn.metadata]

    def _open(self, messages: Sequence[BaseMessage]) -> Record | None:
        """Return the last turn if `messages` continue with it."""
        last = self._records()[-1:]
        first = text_messages(messages)
        if not last or first and first[0]["role"] == "user" and text_messages(_messages(last[0])):
            return None
        return last[0]

    def _turns(self, messages: Sequence[BaseMessage]) -> list[Turn]:
        """Return messages as turns; messages without text belong to the turn before them."""
        texts = [(place, spoken(text_messages([m]))) for place, m in enumerate(messages)]
        groups = exchanges((place, words[0]) for place, words in texts if words)
        starts = [0, *(group.messages[0][0] for group in groups[1:]), len(messages)]
        parts = [messages[start:end] for start, end in zip(starts, starts[1:], strict=False)]
        turns = [group.turn() for group in groups] or [Turn(assistant=_placeholder(messages))]
        return [
            replace(
                turn,
                id=uuid.uuid4().hex,
                session=self.session,
                metadata={**turn.metadata, MESSAGES: packed(part, turn)},
            )
            for turn, part in zip(turns, parts, strict=True)
        ]


def _messages(record: Record) -> list[BaseMessage]:
    return unpacked(record.turn.metadata.get(MESSAGES, ()), record.turn)


def _placeholder(messages: Sequence[BaseMessage]) -> str:
    """Return a placeholder text for messages without text: a turn needs text."""
    return f"({', '.join(message.type for message in messages)})"
