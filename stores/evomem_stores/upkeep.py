"""What keeps a database healthy over the years: copies, repairs, other encoders. See `Store`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select, text

from evomem.errors import IntegrityError
from evomem.state import Spec
from evomem_stores import anchors, audit, dump, generations, ledger, sealing
from evomem_stores.engine import Engine
from evomem_stores.generations import SqlGeneration
from evomem_stores.tables import hidden, memories
from evomem_stores.writing import write_terms


class Upkeep:
    """The part of `SqlStore` that is about whole databases, not about memories."""

    _engine: Engine
    _spec: Spec
    _tell: Callable[[list[int], Connection | None], None]

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        self._engine.check_writable()

    # other encoders ------------------------------------------------------------------------

    def generation(self, spec: Spec) -> SqlGeneration:
        """See `Store.generation`."""
        return SqlGeneration(self._engine, spec, self._tell)

    def drop_generations(self) -> list[str]:
        """See `Store.drop_generations`."""
        with self._engine.writing() as connection:
            return generations.drop(connection)

    # copies --------------------------------------------------------------------------------

    def backup(self, target: Path) -> None:
        """See `Store.backup`."""
        self._engine.backup(target)

    def export(self, folder: Path) -> int:
        """See `Store.export`."""
        with self._engine.reading() as connection:
            return dump.export(connection, self._spec, folder)

    def load(self, folder: Path, key: bytes | None = None) -> int:
        """See `Store.load`."""
        with self._engine.alone() as connection:
            return dump.load(connection, self._spec, folder, key)

    # integrity -----------------------------------------------------------------------------

    @property
    def key_id(self) -> str:
        """See `Store.key_id`."""
        return self._engine.seals.key_id

    def anchor(self) -> dict[str, Any]:
        """See `Store.anchor`."""
        with self._engine.reading() as connection:
            return anchors.take(connection)

    def seal(self, key: bytes | None) -> int:
        """See `Store.seal`."""
        count = sealing.change_key(self._engine, key)
        self._engine.guard = generations.guard(self._spec, self._engine.seals.key_id)
        return count

    # repairs -------------------------------------------------------------------------------

    def mend(self) -> list[str]:
        """See `Store.mend`."""
        mended = []
        with self._engine.alone() as connection:
            if any("word index" in fault for fault in audit.problems(connection, self._spec)):
                write_terms(connection)
                self._void(connection)
                mended.append("the word index was written anew from the turns")
            reused = connection.execute(
                delete(hidden).where(
                    hidden.c.seq
                    > text("(SELECT head FROM memories m WHERE m.memory = hidden.memory)")
                )
            ).rowcount
            if reused:
                mended.append(f"{reused} deletions of turns that are not there were removed")
        return mended

    def _void(self, connection: Connection) -> None:
        """Give every memory another revision: what was read of their old rows is void.

        An entry that was edited stays as it is, so that it stays reported.
        """
        for number in connection.scalars(select(memories.c.memory)).all():
            with suppress(IntegrityError):
                entry = ledger.get(connection, number)
                entry.revision += 1
                ledger.put(connection, entry)

    def compact(self) -> tuple[int, int]:
        """See `Store.compact`."""
        before = self._size()
        self._engine.compact()
        return before, self._size()

    def _size(self) -> int:
        with self._engine.reading() as connection:
            return self._engine.size(connection)
