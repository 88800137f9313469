"""What keeps a database healthy over the years: copies, repairs, other encoders. See `Store`."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import delete, text

from evomem.errors import StoreError
from evomem.state import Spec
from evomem_stores import audit, dump, generations
from evomem_stores.engine import Engine, raw, sync_folder, translated
from evomem_stores.generations import SqlGeneration
from evomem_stores.tables import hidden
from evomem_stores.writing import write_terms


class Upkeep:
    """The part of `SqlStore` that is about whole databases, not about memories."""

    _engine: Engine
    _spec: Spec
    rewritten: list[Callable[[int], None]]

    # other encoders ------------------------------------------------------------------------

    def generation(self, spec: Spec) -> SqlGeneration:
        """See `Store.generation`."""
        return SqlGeneration(self._engine, spec, self._switched)

    def drop_generations(self) -> list[str]:
        """See `Store.drop_generations`."""
        with self._engine.writing() as connection:
            names = generations.kept(connection)
            connection.execute(delete(generations.generations))
        return names

    def _switched(self, numbers: list[int]) -> None:
        for tell in self.rewritten:
            for number in numbers:
                tell(number)

    # copies --------------------------------------------------------------------------------

    def backup(self, target: Path) -> None:
        """See `Store.backup`."""
        with self._engine.reading() as connection:
            copy(raw(connection), target)

    def export(self, folder: Path) -> int:
        """See `Store.export`."""
        with self._engine.reading() as connection:
            return dump.export(connection, self._spec, folder)

    def load(self, folder: Path) -> int:
        """See `Store.load`."""
        with self._engine.writing() as connection:
            return dump.load(connection, self._spec, folder)

    # repairs -------------------------------------------------------------------------------

    def mend(self) -> list[str]:
        """See `Store.mend`."""
        mended = []
        with self._engine.writing() as connection:
            if any("word index" in fault for fault in audit.problems(connection, self._spec)):
                write_terms(connection)
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
        self._engine.checkpoint()
        with self._engine.alone() as connection:
            connection.execute("VACUUM")
        self._engine.checkpoint()
        return before, self._size()

    def _size(self) -> int:
        path = self._engine.path
        files = [path, path.with_name(path.name + "-wal")] if path else []
        return sum(file.stat().st_size for file in files if file.exists())


def copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy a database as it is at this moment, as a whole or not at all, for the owner alone.

    Raises:
        StoreError: There is something at `target` already, or it cannot be written.
    """
    for path in (target, target.with_name(target.name + "-wal")):
        if path.exists():
            raise StoreError(f"{path} exists already: give another path, or move it away first")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with translated(partial), closing(sqlite3.connect(partial)) as copied:
            copied.execute("PRAGMA synchronous = FULL")
            source.backup(copied)
        os.link(partial, target)  # unlike a rename, this never replaces a file
        sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}") from error
    finally:
        for name in (
            partial.name,
            partial.name + "-wal",
            partial.name + "-shm",
            partial.name + "-journal",
        ):
            partial.with_name(name).unlink(missing_ok=True)
