"""`SqlLog`: the log in SQLite or PostgreSQL; `evomem.store.Store` documents the methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from evomem.errors import HeadMoved, NamespaceError
from evomem.state import Spec
from evomem.store import (
    Dropped,
    Namespace,
    Row,
    View,
    WriteSlot,
)
from evomem_stores.database.connections import Connections
from evomem_stores.log import (
    dropping,
    writing,
)
from evomem_stores.log.leases import Lease, Leases, under_lease
from evomem_stores.log.reader import LogReader, find_memory


class SqlLog(LogReader):
    """The memories of a `Store` in one SQL database. Safe to use from many threads and processes."""

    def __init__(
        self,
        connections: Connections,
        spec: Spec,
        index_folder: Path | None,
        leases: Leases | None = None,
    ) -> None:
        super().__init__(connections, spec)
        self._leases = leases
        self._index_folder = index_folder
        self.rewritten: list[Callable[[int, Connection | None], None]] = [
            lambda memory, _: self._words.forget(memory)
        ]
        """Called with the number of a memory that loses rows: in that transaction, with its
        connection, and after it, with None."""

    def make_memory(self, namespace: Namespace) -> int:
        """See `Store.make_memory`."""
        with self._connections.writing() as connection:
            number = find_memory(connection, namespace)
            number = number or writing.make_memory(connection, namespace, None, 0, 0)
            return number or _made_by_another(connection, namespace)

    def fork(self, view: View, namespace: Namespace) -> int:
        """See `Store.fork`."""
        with self._connections.writing(view.memory) as connection:  # keeps the memory from changing
            number = writing.fork(connection, view, namespace)
            if number is None:
                raise NamespaceError(
                    f"the memory {'/'.join(namespace)!r} exists already: fork to another name"
                )
            return number

    def write_slot(self, memory: int) -> AbstractContextManager[WriteSlot]:
        """See `Store.write_slot`."""
        return self._leases.slot(memory) if self._leases else self._connections.write_slot(memory)

    def needs_lease(self, memory: int) -> bool:
        """See `Store.needs_lease`."""
        return self._leases is not None and not self._leases.holds(memory)

    def slot_is_taken(self, memory: int) -> bool:
        """See `Store.slot_is_taken`."""
        return self._leases is None and self._connections.slot_is_taken(memory)

    def append(
        self,
        view: View,
        rows: Sequence[Row],
        *,
        replaces: Mapping[int, int] = MappingProxyType({}),
        revived: Sequence[Collection[str]] = (),
    ) -> None:
        """See `Store.append`.

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken; or, with `replaces`, a
                turn was hidden.
            DuplicateTurn: An id is already in the memory's log, or twice in `rows`.
            EncoderError: A reading has a wrong shape or length, or is not finite.
        """
        writing.check_rows(rows, self._spec, first=view.seq + 1, dense=True)
        with self._writing(view.memory) as connection:
            writing.append(connection, view, rows, self._spec, replaces, revived)

    def hide(self, view: View, seqs: Sequence[int]) -> int:
        """See `Store.hide`."""
        with self._writing(view.memory) as connection:
            return writing.hide(connection, view, seqs)

    def annotate(self, view: View, seq: int, metadata: Mapping[str, Any]) -> None:
        """See `Store.annotate`."""
        with self._writing(view.memory) as connection:
            writing.annotate(connection, view, seq, metadata)

    def rewrite(
        self,
        view: View,
        seq: int,
        rows: Sequence[Row],
        *,
        moved: Mapping[int, int] = MappingProxyType({}),
    ) -> bool:
        """See `Store.rewrite`.

        Raises:
            HeadMoved: The log has grown or changed since `view` was taken.
            SharedTurns: A fork shares a row from `seq` on.
            EncoderError: A reading cannot be stored.
        """
        writing.check_rows(rows, self._spec, first=seq, dense=False)
        with self._forgetting(view.memory) as (connection, changed):
            writing.rewrite(connection, view, seq, rows, self._spec, moved)
            changed += [view.memory, *dropping.prune(connection)[0]]
        return self._connections.scrub()

    def drop(self, prefix: Namespace, *, below: bool = True) -> Dropped:
        """See `Store.drop`."""
        with self._forgetting() as (connection, changed):
            names = dropping.drop(connection, prefix, below=below)
            pruned, erased = dropping.prune(connection)
            changed += pruned
            shared = dropping.rows_kept_for_forks(connection)
        return Dropped(names, erased, shared, clean=self._connections.scrub())

    @contextmanager
    def _writing(self, memory: int) -> Iterator[Connection]:
        """Provide a transaction to change a memory, under its lease if leases are in use."""
        with (
            self._leased(memory) as lease,
            self._connections.writing(memory) as connection,
            under_lease(connection, lease),
        ):
            yield connection

    def _leased(self, memory: int | None) -> AbstractContextManager[Lease | None]:
        """Provide the lease of a memory; None without leases, or without a memory."""
        return self._leases.writing(memory) if self._leases and memory else nullcontext()

    @contextmanager
    def _forgetting(self, memory: int | None = None) -> Iterator[tuple[Connection, list[int]]]:
        """Provide a transaction, and a list for the numbers of memories that lose rows in it.

        Listeners in `rewritten` delete their copies of rows inside the transaction, so that no copy
        remains if the process is killed, and again after it, since copies can be made until it ends.
        """
        changed: list[int] = []
        with self._leased(memory) as lease, self._connections.forgetting(memory) as connection:
            with under_lease(connection, lease):
                yield connection, changed
                self._notify(changed, connection)
        self._notify(changed, None)

    def _notify(self, changed: list[int], connection: Connection | None) -> None:
        for listener in self.rewritten:
            for memory in changed:
                listener(memory, connection)

    def close(self) -> None:
        """Release leases and connections; harmless when repeated."""
        if self._leases:
            self._leases.close()
        self._connections.close()


def _made_by_another(connection: Connection, namespace: Namespace) -> int:
    """Return the number of a memory that another process has just created.

    Raises:
        HeadMoved: The memory was dropped again.
    """
    number = find_memory(connection, namespace)
    if number is None:
        raise HeadMoved(
            f"the memory {'/'.join(namespace)!r} was dropped while it was created; try again"
        )
    return number
