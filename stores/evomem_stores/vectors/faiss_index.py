"""`FaissIndex`: nearest turns with FAISS, kept equal to the log. See `evomem.store.Index`.

There is one shard a memory, of its own rows; a fork searches its parent's too. Before a shard is
searched it catches up with the log: by seq where the log has only grown, from nothing where the
rows it has are not the log's any more. Files only save reading the log again.

A thread first enters a snapshot of the log and then takes the lock of a shard, never the other way
round: all connections may be held by threads that wait for the lock.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evomem._forking import reset_in_child
from evomem.errors import EvomemError, HeadMoved
from evomem.state import Vectors
from evomem.store import Log, Mark, Selection, Seqs, Span, View
from evomem_stores.database.tables import LAST
from evomem_stores.vectors import index_file
from evomem_stores.vectors.codes import ROWS
from evomem_stores.vectors.shard import Shard

if TYPE_CHECKING:  # torch comes only with a device
    from evomem_stores.vectors.device_copy import Device

WORTH = 1024  # rows: fewer are read from the log as fast as from a file
SHARE = 0.1  # of the rows: so many new ones are worth writing the file again


class _Cached:
    """A memory's shard, once it is there, and how much of it is on disk."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shard: Shard | None = None
        self.saved = 0

    @property
    def on_device(self) -> int:
        """Bytes that the device has of it."""
        shard = self.shard
        copy = shard.device_copy if shard else None
        return copy.nbytes if copy else 0


class FaissIndex:
    """An `Index` over the rows of a store. Safe to use from many threads and processes."""

    def __init__(
        self,
        store: Log,
        folder: Path | None,
        *,
        max_bytes: int = 2**30,
        worth: int = WORTH,
        exact_rows: int | None = ROWS,
        device: Device | None = None,
    ) -> None:
        """Make an index.

        Args:
            store: The log.
            folder: Where files are kept; None for none.
            max_bytes: Of shards in memory; the least recently used ones go first.
            worth: How many rows that no file has yet are worth writing one.
            exact_rows: Memories of more rows are searched by their codes first (`codes`), so that
                a turn may be missed; None: every answer is exact.
            device: Where large memories are searched exactly, instead of by their codes.
        """
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._worth = worth
        self._exact_rows = exact_rows
        self._device = device
        self._guard = threading.Lock()
        self._cached: OrderedDict[int, _Cached] = OrderedDict()
        self._warned = False
        self._read_all = 0
        reset_in_child(self._after_fork)
        if folder:
            index_file.sweep(folder)

    def search(
        self,
        view: View,
        query: Vectors,
        k: int,
        *,
        allowed: Seqs | None = None,
        without: Seqs | None = None,
    ) -> list[tuple[int, float]]:
        """See `Index.search`."""
        hits: list[tuple[int, float]] = []
        with self.reading(view), self._store.snapshot():
            for span, end in zip(view.spans, view.ends, strict=True):
                with self._shard(span, end) as shard:
                    hits += shard.nearest(span, query, k, Selection(allowed, without))
                    read_all, shard.read_all = shard.read_all, 0
                if read_all:
                    with self._guard:
                        self._read_all += read_all
        return sorted(hits, key=lambda item: (-item[1], -item[0]))[:k]

    def score(self, view: View, query: Vectors, seqs: Sequence[int]) -> dict[int, float]:
        """See `Index.score`."""
        wanted = np.unique(np.array(seqs, np.int64))
        scores: dict[int, float] = {}
        if not len(wanted):
            return scores
        with self.reading(view), self._store.snapshot():
            for span, end in zip(view.spans, view.ends, strict=True):
                inside = wanted[(wanted >= span.first) & (wanted <= span.last)]
                with self._shard(span, end) as shard:
                    scores |= shard.score(inside, query)
        return scores

    @contextmanager
    def reading(self, view: View) -> Iterator[None]:
        """See `Index.reading`. Files are written, and shards put away, when it ends."""
        if self._store.in_snapshot:  # inside of another `reading`, which does all this
            yield
            return
        try:
            yield
        except HeadMoved:
            for span in view.spans:
                self._drop_foreign(span.memory)
            raise
        for span in view.spans:
            with self._guard:
                cached = self._cached.get(span.memory)
            if cached is not None:
                self._save(span.memory, cached)
        self._evict()

    def stats(self) -> dict[str, int]:
        """Return how many searches read all rows of a large memory because its codes were not enough."""
        return {"searches_of_all_rows": self._read_all}

    def verify(self) -> list[str]:
        """Compare every index file, and every shard in memory, with the log."""
        faults: list[str] = []
        folder = self._folder
        for path in sorted(folder.glob("*.faiss")) if folder and folder.is_dir() else ():
            if problem := self._file_problem(path):
                faults.append(f"the index file {path.name} {problem}; it is replaced when needed")
        with self._guard:
            cached = list(self._cached.items())
        for memory, entry in cached:
            with self._store.snapshot(), entry.lock:
                shard = entry.shard
                if not (shard and self._is_of_the_log(memory, shard)):
                    continue  # another process purged: this one will see it before it searches
                if problem := self._log_problem(memory, shard):
                    faults.append(f"the index of memory {memory} {problem}")
        return faults

    def repair(self) -> list[str]:
        """Remove every index file that does not belong to the log; return what was removed."""
        repaired = []
        folder = self._folder
        for path in sorted(folder.glob("*.faiss")) if folder and folder.is_dir() else ():
            if problem := self._file_problem(path):
                path.unlink(missing_ok=True)
                repaired.append(f"the index file {path.name} was removed: it {problem}")
        return repaired

    def forget(self, memory: int) -> None:
        """Drop a memory's shard and its file, which hold vectors of purged turns."""
        with self._guard:
            self._cached.pop(memory, None)
        self._remove(memory)

    def close(self) -> None:
        """Write unsaved shards and release them; harmless when repeated."""
        with self._guard:
            cached, self._cached = self._cached, OrderedDict()
        self._release(cached)

    # ---------------------------------------------------------------------------------------

    @contextmanager
    def _shard(self, span: Span, end: Mark) -> Iterator[Shard]:
        """Provide exclusive access to the shard of a memory, with all rows of a span."""
        with self._guard:
            cached = self._cached.setdefault(span.memory, _Cached())
            self._cached.move_to_end(span.memory)
        with cached.lock:
            shard = self._caught_up(span, end, cached)
            exact = self._exact_rows is None or len(shard) <= self._exact_rows
            if self._is_on_device(shard) or exact:
                shard.codes = None
            elif shard.codes is None or len(shard.codes) < len(shard):
                shard.encode()
            yield shard

    def _is_on_device(self, shard: Shard) -> bool:
        """Copy a large shard to the device, if there is one; return whether all of it is there."""
        if self._device is None or len(shard) <= self._device.rows:
            return False
        if shard.device_copy is None:
            shard.device_copy = self._device.empty_copy()
        return shard.device_copy.follow(shard.held)

    def _caught_up(self, span: Span, end: Mark, cached: _Cached) -> Shard:
        """Return the shard with the rows of a span, whose last one has the mark `end`.

        Raises:
            HeadMoved: The log was rewritten after the view of the span was taken.
        """
        memory = span.memory
        if cached.shard is None:
            cached.shard = self._load(memory)
            cached.saved = len(cached.shard) if cached.shard else 0
        shard = cached.shard
        if shard and shard.reaches(span.last, end):
            return shard
        if shard and shard.revision > end.revision:
            raise HeadMoved(f"memory {memory} was rewritten while it was searched")
        behind = shard and shard.watermark < span.last and self._is_of_the_log(memory, shard)
        if not (shard and behind):
            if shard:
                self._remove(memory)  # it may hold vectors of turns that were purged
            shard, cached.saved = Shard(self._store.spec.dim, end.revision), 0
        rows = self._store.vectors(Span(memory, shard.watermark + 1, LAST), end.revision)
        shard.add(rows.seqs, rows.rows, rows.keys)
        cached.shard = shard
        if not shard.reaches(span.last, end):
            raise HeadMoved(f"memory {memory} was rewritten while it was searched")
        return shard

    def _drop_foreign(self, memory: int) -> None:
        """Drop a shard whose rows are not the log's."""
        with self._guard:
            cached = self._cached.get(memory)
        if cached is not None:
            with self._store.snapshot(), cached.lock:
                if cached.shard and not self._is_of_the_log(memory, cached.shard):
                    cached.shard = None
                    self._remove(memory)

    def _load(self, memory: int) -> Shard | None:
        if not self._folder:
            return None
        try:
            shard = index_file.read(self._path(memory), memory, self._store.spec)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, RuntimeError):
            shard = None
        if shard is None or not self._is_of_the_log(memory, shard):
            self._remove(memory)  # whatever is wrong with it: the log has all of it
            return None
        return shard

    def _save(self, memory: int, cached: _Cached, *, put_away: bool = False) -> None:
        """Write the file of a memory, if enough rows are new or the shard is `put_away`.

        The log is asked before and after, in transactions of their own: a purge in another process
        may have looked for the file before it was there.
        """
        if not self._folder:
            return
        with cached.lock:
            shard = cached.shard
            if shard is None:
                return
            new, least = len(shard) - cached.saved, max(self._worth, SHARE * cached.saved)
            if not (new and len(shard) >= self._worth if put_away else new >= least):
                return
            data = index_file.dump(shard, memory, self._store.spec)
            watermark, mark = shard.watermark, shard.mark
            cached.saved = len(shard)
        try:
            if self._store.mark(memory, watermark) == mark:
                index_file.write(self._path(memory), data)
            if self._store.mark(memory, watermark) != mark:
                self._remove(memory)
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"index files cannot be kept in {self._folder} ({error}): searching goes on, "
                    "but vectors are read from the database again after every start",
                    stacklevel=2,
                )
        except EvomemError:  # the database was closed, or is of another encoder by now
            self._remove(memory)

    def _remove(self, memory: int) -> None:
        if self._folder:
            with suppress(OSError):  # if it stays, its revision tells that it is void
                self._path(memory).unlink(missing_ok=True)

    def _evict(self) -> None:
        gone: OrderedDict[int, _Cached] = OrderedDict()
        with self._guard:
            size = sum(entry.shard.nbytes for entry in self._cached.values() if entry.shard)
            while size > self._max_bytes and len(self._cached) > 1:
                memory, entry = self._cached.popitem(last=False)
                size -= entry.shard.nbytes if entry.shard else 0
                gone[memory] = entry
        self._release(gone)
        self._make_room()

    def _make_room(self) -> None:
        """Remove the least recently used copies from the device while they exceed the limit."""
        if self._device is None:
            return
        with self._guard:
            on_device = [entry for entry in self._cached.values() if entry.on_device]
        size = sum(entry.on_device for entry in on_device)
        for entry in on_device[:-1]:
            if size <= self._device.max_bytes:
                return
            with entry.lock:
                size -= entry.on_device
                if entry.shard:
                    entry.shard.device_copy = None

    def _release(self, gone: OrderedDict[int, _Cached]) -> None:
        """Save shards that have unsaved rows, unless the log has been rewritten since."""
        for memory, entry in gone.items():
            self._save(memory, entry, put_away=True)

    def _after_fork(self) -> None:
        """Keep, in a forked child, the shards that no other thread was changing."""
        self._guard = threading.Lock()
        self._cached = OrderedDict(
            (memory, cached) for memory, cached in self._cached.items() if not cached.lock.locked()
        )

    def _path(self, memory: int) -> Path:
        assert self._folder
        return self._folder / f"{memory}.faiss"

    def _file_problem(self, path: Path) -> str | None:
        if not path.stem.isdecimal():
            return "is not named after a memory"
        memory = int(path.stem)
        try:
            shard = index_file.read(path, memory, self._store.spec)
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            return str(error)
        return self._log_problem(memory, shard)

    def _is_of_the_log(self, memory: int, shard: Shard) -> bool:
        """Return whether the log still has a shard's rows unchanged; it may have more."""
        return self._store.mark(memory, shard.watermark) == shard.mark

    def _log_problem(self, memory: int, shard: Shard) -> str | None:
        """Return how a shard differs from the log; missing new rows are no difference."""
        if not self._is_of_the_log(memory, shard):
            return "is of rows that the log does not have, or not any more"
        rows = self._store.vectors(Span(memory, 1, shard.watermark), shard.revision)
        same = np.array_equal(rows.seqs, shard.seqs)
        if not (same and np.array_equal(rows.vectors, shard.vectors)):
            return "does not agree with the log"
        if shard.codes and not shard.codes.fits(shard.vectors[: len(shard.codes)]):
            return "has codes that are not those of its vectors"
        if shard.device_copy and not shard.device_copy.fits(
            shard.vectors[: len(shard.device_copy)]
        ):
            return "has other vectors on its device"
        return None
