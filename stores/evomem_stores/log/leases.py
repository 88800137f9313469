"""Leases: one worker at a time writes to a memory, so that other workers do not waste reads on it.

A worker acquires a memory's lease before its encoder reads a turn. The lease has a fencing token,
which increases each time the lease is acquired. `ledger.put` compares the token with the memory's in
the transaction that changes the entry: a worker that lost its lease writes nothing. So it is harmless
if two workers both believe that they hold the lease, after a pause or a network failure.

A lease expires some seconds after the last write, by the database's clock; each write renews it in
the statement that changes the entry. A worker that wants a lease that another holds marks the memory,
and acquires the lease after the holder's next write, or when the lease has expired. A write under a
held lease takes no more statements than a write without leases.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, update

from evomem._forking import reset_in_child
from evomem.errors import DatabaseBusy, EvomemError, HeadMoved, LeaseLost, StoreError, shown
from evomem.store import WriteSlot
from evomem_stores.database.connections import MAX_TIMEOUT, Connections
from evomem_stores.database.dialects import Now, OneOf
from evomem_stores.database.tables import memories

POLL = 0.01, 0.2  # seconds between attempts to acquire a lease: initially, and at most
MAX_LEASES = 2**14  # remembered leases; beyond it, those that may have expired are forgotten

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
    """The lease of a memory, as this worker knows it."""

    memory: int
    fence: int
    seconds: float
    renewed: float
    """A time (`time.monotonic`) no later than the last acquisition or renewal."""
    is_wanted: bool = False
    """Whether another worker waits for it: if so, it ends with the next write."""

    @property
    def micros(self) -> int:
        """Microseconds for which a write renews the lease; 0 to end it."""
        return 0 if self.is_wanted else round(self.seconds * 1e6)

    def is_fresh(self, part: float) -> bool:
        """Return whether less than this part of its time has passed since it was renewed."""
        return time.monotonic() - self.renewed < part * self.seconds

    def check(self, fence: int, wanted: int) -> None:
        """Compare the fencing token with the database's, and note whether others want the lease.

        Raises:
            LeaseLost: Another worker has acquired the lease.
        """
        if fence != self.fence:
            raise LeaseLost(
                f"another worker took over the lease of memory {self.memory} (fencing token {fence}, "
                f"this worker's is {self.fence}); nothing was written: read the memory again and retry"
            )
        self.is_wanted = bool(wanted)


def under_lease(connection: Connection, lease: Lease | None) -> AbstractContextManager[None]:
    """Make `lease_of` return the lease inside of the context."""
    return nullcontext() if lease is None else _under(connection, lease)


@contextmanager
def _under(connection: Connection, lease: Lease) -> Iterator[None]:
    info = connection.info  # not available after a signal has interrupted SQLAlchemy
    info["lease"] = lease
    try:
        yield
    finally:
        del info["lease"]


def lease_of(connection: Connection, memory: int) -> Lease | None:
    """Return the lease under which a transaction writes to a memory, None without leases."""
    lease: Lease | None = connection.info.get("lease")
    return lease if lease is not None and lease.memory == memory else None


class Leases:
    """The leases of one worker. Safe for threads that write to different memories."""

    def __init__(self, connections: Connections, seconds: float, timeout: float) -> None:
        """Start without leases.

        Args:
            connections: The database.
            seconds: How long a lease lasts after the last write.
            timeout: Seconds to wait for another worker's lease.
        """
        self._connections = connections
        self._seconds = seconds
        self._timeout = timeout
        self._reset()
        reset_in_child(self._reset)

    def _reset(self) -> None:
        """Become a new worker, at construction and in a forked child."""
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._held: dict[int, Lease] = {}

    def holds(self, memory: int) -> bool:
        """Return, without a query, whether a memory's lease lasts long enough to read turns."""
        lease = self._held.get(memory)
        return lease is not None and lease.is_fresh(0.5)

    @contextmanager
    def slot(self, memory: int) -> Iterator[WriteSlot]:
        """Hold the lease of a memory while turns are read, as a write slot (`Store.write_slot`)."""
        lease = self._held[memory] if self.holds(memory) else self._take(memory)
        yield lambda: self._renew(lease)

    @contextmanager
    def writing(self, memory: int) -> Iterator[Lease]:
        """Provide the lease for a write to a memory, the one under which its turns were read.

        Raises:
            HeadMoved: The body raised it: another worker has written, or holds the lease. The lease
                is forgotten, so that the next write re-acquires it.
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
        """Release every lease; if the database is unreachable or was re-encoded, they expire."""
        numbers, self._held = list(self._held), {}
        release = update(memories).where(
            OneOf(memories.c.memory, numbers), memories.c.holder == self.worker
        )
        if numbers:
            with suppress(EvomemError), self._connections.writing() as connection:
                connection.execute(release.values(leased=0))

    def _take(self, memory: int) -> Lease:
        """Acquire a lease; wait until its holder releases it.

        Raises:
            HeadMoved: There is no such memory.
            DatabaseBusy: Another worker held it for too long.
        """
        first, (pause, longest) = time.monotonic(), POLL
        parameters = {"number": memory, "worker": self.worker, "micros": round(self._seconds * 1e6)}
        is_requested = False
        while True:
            before = time.monotonic()
            with self._connections.writing(memory) as connection:
                fence = connection.scalar(_TAKE, parameters)
                holder = ""
                if fence is None and not is_requested:
                    holder = connection.scalar(_WANT, {"number": memory})
            if fence is not None:
                return self._remember(Lease(memory, fence, self._seconds, before))
            if holder is None:
                raise HeadMoved(f"there is no memory number {memory} any more: it was dropped")
            is_requested = True
            if before - first > self._timeout:
                raise DatabaseBusy(
                    f"another worker held the lease of memory {memory} for longer than "
                    f"{self._timeout:g} seconds; nothing was written: try again, or open with a "
                    "larger busy_timeout="
                )
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _remember(self, lease: Lease) -> Lease:
        if len(self._held) >= MAX_LEASES:
            self._held = {number: held for number, held in self._held.items() if held.is_fresh(1)}
        self._held[lease.memory] = lease
        return lease

    def _renew(self, lease: Lease) -> bool:
        """Renew a lease after a third of its time; return whether others want it, or hold it."""
        if lease.is_fresh(1 / 3):
            return False
        before = time.monotonic()
        parameters = {"number": lease.memory, "number_held": lease.fence, "micros": lease.micros}
        with self._connections.writing(lease.memory) as connection:
            wanted: int | None = connection.scalar(_RENEW, parameters)
        lease.renewed = before
        return wanted is None or bool(wanted)


def check_lease(seconds: object) -> float | None:
    """Return how many seconds leases last, None for no leases.

    Raises:
        StoreError: It is not a number of seconds greater than 0.
    """
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= MAX_TIMEOUT:  # type: ignore[operator]
        raise StoreError(f"lease must be a number of seconds greater than 0, got {shown(seconds)}")
    return float(seconds)  # type: ignore[arg-type]
