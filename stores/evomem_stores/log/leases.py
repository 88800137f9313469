"""Leases: of several workers, one at a time writes to a memory, and keeps the others from reading in vain.

A worker takes a memory's lease before it reads a turn. The lease has a fencing number, which grows
each time that the lease is taken. `ledger.put` compares it with the memory's own before it changes
the entry, in the same transaction: a worker that lost its lease writes nothing. So two workers that
both believe to have the lease, after a pause or a cut network, do no harm.

A lease ends some seconds after the last write, by the database's clock; each write renews it, in the
statement that changes the entry. A worker that wants the lease of another marks the memory, and gets
it at the end of the other's next write, or when the lease has ended. The write of a worker that holds
the lease takes no statement more than a write without leases.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, update

from evomem._forking import reset_in_child
from evomem.errors import DatabaseBusy, EvomemError, HeadMoved, LeaseLost, StoreError, shown
from evomem.store import WriteSlot
from evomem_stores.database.connections import MAX_TIMEOUT, Connections
from evomem_stores.database.dialects import Now, OneOf
from evomem_stores.database.tables import memories

POLL = 0.01, 0.2  # seconds between two attempts to take a lease: at first, and at most
KEPT = 2**14  # leases that are remembered; those that may have ended go first

_MINE = memories.c.memory == bindparam("number")
_TAKE = (
    update(memories)
    .where(_MINE, or_(memories.c.leased <= Now(), memories.c.holder == bindparam("worker")))
    .values(
        fence=memories.c.fence + 1,
        holder=bindparam("worker"),
        leased=Now() + bindparam("micros"),
        wanted=0,
    )
    .returning(memories.c.fence)
)
_WANT = update(memories).where(_MINE).values(wanted=1).returning(memories.c.holder)
_RENEW = (
    update(memories)
    .where(_MINE, memories.c.fence == bindparam("number_held"))
    .values(leased=Now() + bindparam("micros"))
    .returning(memories.c.wanted)
)


@dataclass(slots=True)
class Lease:
    """The lease of a memory, as the worker knows it."""

    memory: int
    fence: int
    seconds: float
    renewed: float
    """When it was taken or renewed last, at the latest: `time.monotonic` of this worker."""
    is_wanted: bool = False
    """Whether another worker waits for it: then it ends with the next write."""

    @property
    def micros(self) -> int:
        """Microseconds that it lasts from now on; 0 if it ends now."""
        return 0 if self.is_wanted else round(self.seconds * 1e6)

    def is_fresh(self, part: float) -> bool:
        """Say whether less than a part of its time has passed since it was renewed."""
        return time.monotonic() - self.renewed < part * self.seconds

    def check(self, fence: int, wanted: int) -> None:
        """Compare with what the database has; a lease that others want ends with this write.

        Raises:
            LeaseLost: Another worker has taken it since.
        """
        if fence != self.fence:
            raise LeaseLost(
                f"the lease of memory {self.memory} has number {fence} now, and this worker's has "
                f"{self.fence}: another worker took it over; nothing was written: read the memory "
                "again and retry"
            )
        self.is_wanted = bool(wanted)


def lease_of(connection: Connection, memory: int) -> Lease | None:
    """Return the lease that a transaction writes to a memory with, None without leases."""
    lease: Lease | None = connection.get_execution_options().get("lease")
    return lease if lease is not None and lease.memory == memory else None


class Leases:
    """The leases of one worker. Safe to use from many threads that write to different memories."""

    def __init__(self, connections: Connections, seconds: float, patience: float) -> None:
        """Hold no lease yet.

        Args:
            connections: The database.
            seconds: How long a lease lasts after the last write.
            patience: Seconds to wait for the lease of another worker.
        """
        self._connections = connections
        self._seconds = seconds
        self._patience = patience
        self._begin()
        reset_in_child(self._begin)

    def _begin(self) -> None:
        """Be a new worker: at first, and in a forked child."""
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held: dict[int, Lease] = {}

    def holds(self, memory: int) -> bool:
        """Say whether the lease of a memory is held for long enough to read turns; without a query."""
        lease = self._held.get(memory)
        return lease is not None and lease.is_fresh(0.5)

    @contextmanager
    def slot(self, memory: int) -> Iterator[WriteSlot]:
        """Hold the lease of a memory while turns are read: a write slot (`Store.write_slot`)."""
        lease = self._held[memory] if self.holds(memory) else self._take(memory)
        yield lambda: self._renew(lease)

    @contextmanager
    def writing(self, memory: int) -> Iterator[Lease]:
        """Give the lease to write to a memory with, the one under which its turns were read.

        Raises:
            HeadMoved: The body raised it: another worker has written, or has the lease by now. The
                lease is forgotten, so that the next write takes it again.
        """
        lease = self._held.get(memory) or self._take(memory)
        before = time.monotonic()
        try:
            yield lease
        except HeadMoved:
            self._held.pop(memory, None)
            raise
        if lease.is_wanted:
            self._held.pop(memory, None)
        else:
            lease.renewed = before

    def close(self) -> None:
        """Give every lease back; those of a database that is away, or re-encoded, expire."""
        numbers, self._held = list(self._held), {}
        give = update(memories).where(
            OneOf(memories.c.memory, numbers), memories.c.holder == self.worker
        )
        if numbers:
            with suppress(EvomemError), self._connections.writing() as connection:
                connection.execute(give.values(leased=0))

    def _take(self, memory: int) -> Lease:
        """Take a lease, again or from another worker; wait until that one gives it back.

        Raises:
            HeadMoved: There is no such memory (any more).
            DatabaseBusy: Another worker held it for too long.
        """
        first, (pause, longest) = time.monotonic(), POLL
        given = {"number": memory, "worker": self.worker, "micros": round(self._seconds * 1e6)}
        asked = False
        while True:
            before = time.monotonic()
            with self._connections.writing(memory) as connection:
                fence = connection.scalar(_TAKE, given)
                holder = ""
                if fence is None and not asked:
                    holder = connection.scalar(_WANT, {"number": memory})
            if fence is not None:
                return self._keep(Lease(memory, fence, self._seconds, before))
            if holder is None:
                raise HeadMoved(f"there is no memory number {memory} any more: it was dropped")
            asked = True
            if before - first > self._patience:
                raise DatabaseBusy(
                    f"another worker held the lease of memory {memory} for longer than "
                    f"{self._patience:g} seconds; nothing was written: try again, or open with a "
                    "larger busy_timeout="
                )
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _keep(self, lease: Lease) -> Lease:
        if len(self._held) >= KEPT:
            self._held = {
                n: held_lease for n, held_lease in self._held.items() if held_lease.is_fresh(1)
            }
        self._held[lease.memory] = lease
        return lease

    def _renew(self, lease: Lease) -> bool:
        """Renew a lease of which a third has passed; say whether others want it, or have it."""
        if lease.is_fresh(1 / 3):
            return False
        before = time.monotonic()
        given = {"number": lease.memory, "number_held": lease.fence, "micros": lease.micros}
        with self._connections.writing(lease.memory) as connection:
            wanted: int | None = connection.scalar(_RENEW, given)
        lease.renewed = before
        return wanted is None or bool(wanted)


def check_lease(seconds: object) -> float | None:
    """Return how long leases last, None for none.

    Raises:
        StoreError: It is no number of seconds greater than 0.
    """
    if seconds is None:
        return None
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= MAX_TIMEOUT:  # type: ignore[operator]
        raise StoreError(f"lease must be a number of seconds greater than 0, got {shown(seconds)}")
    return float(seconds)  # type: ignore[arg-type]
