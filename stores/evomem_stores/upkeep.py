"""What keeps a database healthy over the years: copies, repairs, other encoders. See `Store`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, delete, text, update

from evomem.state import Spec
from evomem_stores import audit, dump, generations
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

    def load(self, folder: Path) -> int:
        """See `Store.load`."""
        with self._engine.alone() as connection:
            return dump.load(connection, self._spec, folder)

    # repairs -------------------------------------------------------------------------------

    def mend(self) -> list[str]:
        """See `Store.mend`."""
        mended = []
        with self._engine.alone() as connection:
            if any("word index" in fault for fault in audit.problems(connection, self._spec)):
                write_terms(connection)
                void = {"revision": memories.c.revision + 1}  # what was read of the old ones
                connection.execute(update(memories).values(void))
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

    def compact(self) -> tuple[int, int]:
        """See `Store.compact`."""
        before = self._size()
        self._engine.compact()
        return before, self._size()

    def _size(self) -> int:
        with self._engine.reading() as connection:
            return self._engine.size(connection)
