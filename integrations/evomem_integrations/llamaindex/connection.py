"""`Connection`: the memory that an adapter uses, described by fields that can be serialised."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr

from evomem.adapter import HEADER, Adapter, note_cleaned, write_turn
from evomem.errors import DuplicateTurn, NotFound, StoreError
from evomem.memory import Memory
from evomem.memory_view import Mode
from evomem.records import MAX_RECALLED, Context, Turn
from evomem_integrations._databases import Handle, share

MAX_OPEN_QUESTIONS = 64  # unanswered questions whose shown turns are remembered
MAX_UNWRITTEN = 100  # turns kept while the memory cannot be written


class Connection(BaseModel):
    """The address of a memory and the options of its searches. The memory is opened on first use."""

    location: str = Field(description="The database, as in evomem.open.")
    namespace: tuple[str, ...] = Field(description="The memory, such as ('acme', 'alice').")
    encoder: str | None = Field(
        default=None, description="For a new database; an existing one uses its own by default."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further options of evomem.open, such as device."
    )
    k: int = Field(default=10, ge=1, description="The maximum number of recalled turns.")
    max_tokens: int = Field(default=2000, ge=1, description="Their maximum length in total.")
    mode: Mode = Field(default="evolvable", description="The search mode.")
    zone: str | None = Field(
        default=None,
        description="The user's time zone: days are counted and times shown in it (UTC if not given).",
    )
    turn_source: str | None = Field(
        default=None, description="The source of the turns that are written (Turn.source)."
    )
    strict: bool = Field(
        default=False,
        description="Whether errors of the memory are raised; if not, they are logged and counted "
        "(evomem.adapter.counts).",
    )

    _handle: Handle | None = PrivateAttr(default=None)
    _opened_for: tuple[Any, ...] | None = PrivateAttr(default=None)
    _shown: dict[tuple[object, ...], tuple[str, ...]] = PrivateAttr(default_factory=dict)
    _unwritten: list[Turn] = PrivateAttr(default_factory=list)

    @property
    def memory(self) -> Memory:
        """The memory itself: to search, import, delete, purge."""
        return self._open().database.memory(*self.namespace, zone=self.zone)

    def _open(self) -> Handle:
        address = (self.location, self.encoder, dict(self.options))
        if self._handle is None or self._opened_for != address:  # fields can be changed
            self._handle = share(self.location, self.encoder, **self.options)
            self._opened_for = address
        return self._handle

    def _adapter(self, header: str = HEADER) -> Adapter:
        """Return the adapter of the memory.

        Raises:
            FingerprintMismatch: The database was written by an encoder other than `encoder`, which is
                a mistake in the program. An unreachable database raises nothing here.
        """
        with contextlib.suppress(StoreError, OSError):
            self._open()
        return Adapter(
            lambda: self.memory,
            strict=self.strict,
            header=header,
            k=self.k,
            max_tokens=self.max_tokens,
            mode=self.mode,
        )

    def _note_shown(self, query: str, session: str | None, context: Context) -> Context:
        """Remember which turns were shown for a question; return the context."""
        self._shown[self._question_key(session, query)] = context.ids
        while len(self._shown) > MAX_OPEN_QUESTIONS:
            self._shown.pop(next(iter(self._shown)))
        return context

    async def _commit(
        self, turns: Sequence[Turn], replaces: tuple[Turn, Turn] | None = None
    ) -> None:
        """Write turns that the memory does not hold yet.

        Args:
            turns: The turns in order, with ids.
            replaces: A turn, and the one of `turns` that replaces it.
        """
        labelled = [
            replace(turn, source=self.turn_source, recalled=self._take_shown(turn))
            for turn in turns
        ]
        todo, self._unwritten = [*self._unwritten, *labelled][-MAX_UNWRITTEN:], []
        if not todo:
            return
        written = False
        with self._adapter().degrading("failed_writes"):
            memory = self.memory
            if replaces is not None:
                old, new = replaces
                [turn] = [message for message in todo if message.id == new.id]
                await asyncio.to_thread(_replace, memory, turn, old)
                todo.remove(turn)
            await self._add(memory, todo)
            written = True
        if not written:
            self._unwritten = todo

    async def _add(self, memory: Memory, turns: Sequence[Turn]) -> None:
        with contextlib.suppress(DuplicateTurn):
            if turns:
                await memory.aadd_many(turns)
            for turn in turns:
                note_cleaned(turn.metadata)
            return
        for turn in turns:
            # Ids are derived from texts: a turn that is refused was deleted, and stays deleted.
            await asyncio.to_thread(write_turn, memory, turn)

    def _take_shown(self, turn: Turn) -> list[str]:
        """Return and discard the ids of the turns that were shown for the questions of a turn."""
        ids: dict[str, None] = {}
        for key in list(self._shown):
            *place, text = key
            contains_question = f"\n{text}\n" in f"\n{turn.user}\n"
            if contains_question and tuple(place) == self._question_key(turn.session, "")[:-1]:
                ids |= dict.fromkeys(self._shown.pop(key))
        return list(ids)

    def _question_key(self, session: str | None, text: str) -> tuple[object, ...]:
        """Return the key of the turns that were shown for a question."""
        return self.location, tuple(self.namespace), session, text


def _replace(memory: Memory, turn: Turn, old: Turn) -> None:
    """Replace a turn with its new version; a deleted turn stays deleted."""
    with contextlib.suppress(NotFound):
        recalled = [*memory.get(old.id or "").turn.recalled, *turn.recalled]
        newest = list(dict.fromkeys(recalled))[-MAX_RECALLED:]
        write_turn(memory, replace(turn, recalled=newest), old.id)
