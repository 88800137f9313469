"""`EvoMemMemory`: the conversation memory of chat engines and agents."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory import BaseMemory
from llama_index.core.memory import Memory as ShortTermMemory
from llama_index.core.memory.memory import DEFAULT_TOKEN_LIMIT, generate_chat_store_key
from llama_index.core.storage.chat_store.base_db import MessageStatus

from evomem.adapter import HEADER
from evomem.checks import check_labels
from evomem.memory import Memory
from evomem.records import Turn
from evomem_integrations.llamaindex.chats import Chats, run
from evomem_integrations.llamaindex.connection import Connection
from evomem_integrations.llamaindex.log import ChatMemory, owner
from evomem_integrations.llamaindex.turns import complete, question, replaced, spoken


class EvoMemMemory(Connection, BaseMemory):
    """The messages of one session, and recalled turns of all other sessions.

    Messages are stored exactly as they are put, in LlamaIndex's own short-term `Memory`. A user's
    message and its answer become one turn of the memory when the answer arrives, so a question never
    finds itself. Tool calls, their results and system messages stay in the history only.

    Messages are keyed by database, namespace and session, so two users with sessions of the same name
    share nothing. Purging, expiring or dropping turns through `memory` erases their messages as well.
    Only settings are serialised: a copy, in this process or another, finds the same data.
    """

    session_id: str = Field(
        default_factory=generate_chat_store_key, description="The name of the conversation."
    )
    token_limit: int = Field(
        default=DEFAULT_TOKEN_LIMIT,
        ge=1,
        description="The maximum length of the shown history; `get_all` returns all of it.",
    )
    chat_store_uri: str | None = Field(
        default=None,
        description="An async SQLAlchemy URL for messages; a file next to the database if not given.",
    )
    header: str = Field(default=HEADER, description="The text before the recalled turns.")
    purge: bool = Field(
        default=False, description="Whether `reset` also purges the session's turns."
    )

    _messages: _Messages | None = PrivateAttr(default=None)
    _rewound: Turn | None = PrivateAttr(default=None)  # removed by `set`: it may be asked again

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "EvoMemMemory"

    @classmethod
    def from_defaults(
        cls, *, chat_history: Sequence[ChatMessage] | None = None, **fields: Any
    ) -> EvoMemMemory:
        """Create a memory; `location` and `namespace` are required, every other field has a default.

        Args:
            chat_history: Replaces the session's messages, as `set` does.
            **fields: The fields of this class.
        """
        memory = cls(**fields)
        if chat_history:
            memory.set(list(chat_history))
        return memory

    @property
    def memory(self) -> Memory:
        """The memory itself; `purge`, `expire` and `drop` erase messages as well."""
        place = (self.location, self.chat_store_uri)
        return ChatMemory(self._open(), self.namespace, place, self.zone)

    async def _history(self) -> ShortTermMemory:
        """Return the session's messages; they are opened again if a field has changed."""
        fields = (
            self.location, self.namespace, self.session_id, self.token_limit, self.chat_store_uri,
        )  # fmt: skip
        if self._messages is None or self._messages.fields != fields:
            chats = Chats(self.location, self.chat_store_uri)
            await self._claim(chats)
            history = chats.open(self.namespace, self.session_id, self.token_limit)
            self._messages = _Messages(fields, history)
        return self._messages.history

    async def _claim(self, chats: Chats) -> None:
        """Assign messages without an owner to a memory if their owner is certain; otherwise warn."""
        rows = await chats.unassigned(self.session_id)
        if not rows:
            return
        database = self._open().database
        owner_namespace = None
        if chats.next_to_database:  # the messages of a shared store may belong to another database
            logs = [database.memory(*labels) for labels in database.memories()]
            owner_namespace = await asyncio.to_thread(owner, rows, self.session_id, logs)
        if owner_namespace is not None:
            await chats.assign(self.session_id, owner_namespace)
            return
        warnings.warn(
            f"{len(rows)} messages of the session {self.session_id!r} were stored without their owner "
            "and are not shown to anyone. If they all belong to one user, call adopt_messages() on "
            "the EvoMemMemory of that user and session",
            UserWarning,
            stacklevel=2,
        )

    def adopt_messages(self) -> int:
        """Assign to this memory the messages that earlier versions stored under the session name alone.

        Such messages may belong to several users with sessions of the same name. If the logs make the
        owner certain, they are assigned when a session is opened; otherwise this call declares that
        all of them belong to this memory. They precede messages that were put since. No turn is read.

        Returns:
            The number of messages that were assigned.
        """
        return run(self._adopt())

    @staticmethod
    def erase_messages(location: str, *prefix: str, chat_store_uri: str | None = None) -> int:
        """Erase all messages of the memories whose namespaces begin with `prefix`.

        For memories that were dropped by `Database.drop` or on the command line, which do not erase
        messages.

        Args:
            location: The database of the memories, as in `EvoMemMemory`.
            *prefix: As in `Database.drop`.
            chat_store_uri: As in `EvoMemMemory`.

        Returns:
            The number of erased messages.

        Raises:
            NamespaceError: The prefix is missing or not valid.
        """
        check_labels(prefix)
        return run(_erase(Chats(location, chat_store_uri), prefix))

    async def _adopt(self) -> int:
        chats = Chats(self.location, self.chat_store_uri)
        rows = await chats.unassigned(self.session_id)
        if rows:
            await chats.assign(self.session_id, self.namespace)
        return len(rows)

    # reading -------------------------------------------------------------------------------

    async def aget(
        self, input: str | ChatMessage | None = None, **kwargs: Any
    ) -> list[ChatMessage]:
        """Return the newest messages, with recalled turns before the user's last message.

        If the history starts with a system message, the turns are added to that message.

        Args:
            input: The query; the user's last message if not given.
            **kwargs: Other arguments of callers, such as `initial_token_count`; ignored.
        """
        messages = await (await self._history()).aget()
        text = input.content if isinstance(input, ChatMessage) else input
        query = text or question(messages)
        if not query or not query.strip():
            return messages
        adapter = self._adapter(self.header)
        context = await adapter.arecall(query, session=self.session_id, shown=spoken(messages))
        self._note_shown(query, self.session_id, context)
        return _with_memories(messages, str(context)) if context else messages

    async def aget_all(self, status: MessageStatus | None = None) -> list[ChatMessage]:
        """Return every message of the session as it was put, or those with a status."""
        return await (await self._history()).aget_all(status)

    # writing -------------------------------------------------------------------------------

    async def aput(self, message: ChatMessage) -> None:
        """Add a message; if it completes a turn, the memory reads it."""
        await self.aput_messages([message])

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages in order."""
        if not messages:
            return
        history = await self._history()
        before = await history.aget_all()
        known = complete(before, self.session_id)
        turns = complete([*before, *messages], self.session_id)
        changed = replaced(known, turns)
        new = turns[len(known) - bool(changed) :]
        if changed and changed[1]:
            replaces = changed[0], changed[1]
        elif self._rewound and new and new[0].user == self._rewound.user:
            replaces = self._rewound, new[0]
        else:
            replaces = None
        # Write the memory first: in the other order, a crash between the two would lose the turn.
        await self._commit(new, replaces)
        self._rewound = None if new else self._rewound
        await history.aput_messages(messages)

    async def aset(self, messages: list[ChatMessage]) -> None:
        """Replace the session's messages; turns that the memory does not hold yet are read.

        A turn that was edited or answered again replaces the old one. The same holds if the end of the
        conversation is removed and the same question is put next. A different question starts another
        branch of the conversation, and the turns of both remain.
        """
        history = await self._history()
        turns = complete(messages, self.session_id)
        changed = replaced(complete(await history.aget_all(), self.session_id), turns)
        self._rewound = changed[0] if changed and not changed[1] else None
        await self._commit(turns, (changed[0], changed[1]) if changed and changed[1] else None)
        await history.aset(messages[:-1] if len(messages) > 1 else messages)
        if len(messages) > 1:  # LlamaIndex enforces the token limit only when a message is put
            await history.aput_messages(messages[-1:])

    async def areset(self, status: MessageStatus | None = None) -> None:
        """Delete the session's messages, those with a status or all.

        Their text is removed from the chat store. The turns of the session remain in the memory,
        unless `purge` is set: then they are purged (`Memory.expire`).
        """
        self._rewound = None
        if self.purge and status is None:
            await self.memory.aexpire(session=self.session_id)
        await (await self._history()).areset(status)

    # the same, synchronously -----------------------------------------------------------------

    def get(self, input: str | ChatMessage | None = None, **kwargs: Any) -> list[ChatMessage]:
        """See `aget`."""
        return run(self.aget(input, **kwargs))

    def get_all(self, status: MessageStatus | None = None) -> list[ChatMessage]:
        """See `aget_all`."""
        return run(self.aget_all(status))

    def put(self, message: ChatMessage) -> None:
        """See `aput`."""
        run(self.aput(message))

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """See `aput_messages`."""
        run(self.aput_messages(messages))

    def set(self, messages: list[ChatMessage]) -> None:
        """See `aset`."""
        run(self.aset(messages))

    def reset(self, status: MessageStatus | None = None) -> None:
        """See `areset`."""
        run(self.areset(status))


class _Messages:
    """The opened messages of a session, and the fields that they were opened with."""

    def __init__(self, fields: tuple[Any, ...], history: ShortTermMemory) -> None:
        self.fields = fields
        self.history = history

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None in a copy or a pickle, which connects again."""
        return type(None), ()


async def _erase(chats: Chats, prefix: tuple[str, ...]) -> int:
    count = 0
    for namespace, session in await chats.addresses():
        if namespace[: len(prefix)] == prefix:
            rows = await chats.rows(namespace, session)
            count += await chats.erase([row.id for row in rows])
    await chats.scrub()
    return count


def _with_memories(messages: list[ChatMessage], text: str) -> list[ChatMessage]:
    """Return the messages with `text` in a leading system message, or else before the last question.

    It is not a separate system message, because agents add one and some models accept only one.
    """
    block = TextBlock(text=text)
    roles = [message.role for message in messages]
    if roles[:1] == [MessageRole.SYSTEM]:
        first = messages[0].model_copy(update={"blocks": [*messages[0].blocks, block]})
        return [first, *messages[1:]]
    if MessageRole.USER not in roles:
        return [ChatMessage(role=MessageRole.SYSTEM, blocks=[block]), *messages]
    place = len(roles) - 1 - roles[::-1].index(MessageRole.USER)
    extended = messages[place].model_copy(update={"blocks": [block, *messages[place].blocks]})
    return [*messages[:place], extended, *messages[place + 1 :]]
