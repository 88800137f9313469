"""Maintenance of a database: checks, copies, repairs, other encoders. See `Store`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from evomem.errors import IntegrityError, StoreError
from evomem.rows import FORMS, Form
from evomem.state import Spec
from evomem_stores.database.connections import Connections
from evomem_stores.database.tables import hidden, memories, turns
from evomem_stores.log import ledger
from evomem_stores.log.namespaces import under
from evomem_stores.log.writing import write_terms
from evomem_stores.upkeep import anchors, audit, generations, restoring, sealing
from evomem_stores.upkeep.generations import SqlGeneration


class Upkeep:
    """The part of `SqlStore` that is about whole databases, not about memories."""

    _connections: Connections
    _spec: Spec
    _index_folder: Path | None
    _notify: Callable[[list[int], Connection | None], None]

    def stats(self) -> dict[str, Any]:
        """Return the numbers of memories, turns and deleted turns, and bytes on disk.

        Dropped memories are not counted, except for turns that forks still see.
        """
        with self._connections.reading() as connection:
            named = select(func.count()).select_from(memories).where(under(()))
            numbers: dict[str, Any] = {"memories": connection.scalar(named)}
            for name, table in (("turns", turns), ("deleted", hidden)):
                numbers[name] = connection.scalar(select(func.count()).select_from(table))
            if others := generations.other_encoders(connection):
                numbers["other_encoders"] = others
            numbers["embeddings"] = self._connections.embeddings
            numbers["bytes"] = self._connections.size(connection)
        folder = self._index_folder
        files = list(folder.iterdir()) if folder and folder.is_dir() else []
        numbers["index_bytes"] = sum(file.stat().st_size for file in files)
        return numbers

    def verify(self, anchor: Mapping[str, Any] | None = None) -> list[str]:
        """See `Store.verify`. Checks the database's structures, every row, and the word index."""
        return audit.verify(self._connections, self._spec, anchor)

    def check_encoder(self) -> None:
        """See `Store.check_encoder`."""
        with self._connections.reading() as connection:
            ledger.database_entry(connection)

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        self._connections.check_writable()

    # other encoders ------------------------------------------------------------------------

    def generation(self, spec: Spec) -> SqlGeneration:
        """See `Store.generation`."""
        return SqlGeneration(self._connections, spec, self._notify)

    def drop_generations(self) -> list[str]:
        """See `Store.drop_generations`."""
        with self._connections.writing() as connection:
            return generations.drop(connection)

    # copies --------------------------------------------------------------------------------

    def backup(self, target: Path) -> None:
        """See `Store.backup`."""
        self._connections.backup(target)

    def export(self, folder: Path) -> int:
        """See `Store.export`."""
        from evomem_stores.upkeep import dump  # imports safetensors

        with self._connections.reading() as connection:
            return dump.export(connection, self._spec, folder)

    def load(self, folder: Path, key: bytes | None = None) -> int:
        """See `Store.load`."""
        from evomem_stores.upkeep import dump

        with self._connections.exclusive() as connection:
            return dump.load(connection, self._spec, folder, key)

    # integrity -----------------------------------------------------------------------------

    @property
    def key_id(self) -> str:
        """See `Store.key_id`."""
        return self._connections.seals.key_id

    def anchor(self) -> dict[str, Any]:
        """See `Store.anchor`."""
        with self._connections.reading() as connection:
            return anchors.take(connection)

    def seal(self, key: bytes | None) -> int:
        """See `Store.seal`."""
        count = sealing.change_key(self._connections, key)
        self._connections.guard = generations.guard(self._spec, self._connections.seals.key_id)
        return count

    # repairs -------------------------------------------------------------------------------

    def repair(self) -> list[str]:
        """See `Store.repair`."""
        repaired = []
        with self._connections.exclusive() as connection:
            if any("word index" in fault for fault in audit.problems(connection, self._spec)):
                write_terms(connection)
                self._raise_revisions(connection)
                repaired.append("the word index was rebuilt from the turns")
            removed = connection.execute(
                delete(hidden).where(
                    hidden.c.seq
                    > text("(SELECT head FROM memories m WHERE m.memory = hidden.memory)")
                )
            ).rowcount
            if removed:
                repaired.append(f"{removed} deletions of turns that do not exist were removed")
        return repaired

    def _raise_revisions(self, connection: Connection) -> None:
        """Raise the revision of every memory, which invalidates caches of its old rows.

        An entry with a wrong seal stays unchanged, so that `verify` keeps reporting it.
        """
        for number in connection.scalars(select(memories.c.memory)).all():
            with suppress(IntegrityError):
                entry = ledger.get(connection, number)
                entry.revision += 1
                ledger.put(connection, entry)

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """See `Store.compact`."""
        if embeddings not in (None, *FORMS):
            raise StoreError(f"embeddings must be {' or '.join(FORMS)}, got {embeddings!r}")
        before = self._size()
        if embeddings is not None:
            with self._connections.exclusive() as connection:
                changed = restoring.store_as(connection, self._spec, embeddings)
                self._notify(changed, connection)
            self._connections.embeddings = embeddings
            self._notify(changed, None)
        self._connections.compact()
        return before, self._size()

    def _size(self) -> int:
        with self._connections.reading() as connection:
            return self._connections.size(connection)
