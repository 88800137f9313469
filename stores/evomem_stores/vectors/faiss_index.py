"""`FaissIndex`: an `evomem.store.Index` with FAISS, kept equal to the log.

Each memory has one shard, of its own rows; a fork also searches its parent's shard. Before a search, a
shard catches up with the log: by seq if the log has only grown, and from scratch if the log no longer
has its rows. Files only save re-reading the log.

A thread enters a snapshot of the log before it locks a shard, never the other way round: all
connections may be held by threads that wait for the lock.
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
from evomem_stores.database.tables import MAX_SEQ
from evomem_stores.vectors import index_file
from evomem_stores.vectors.codes import MAX_EXACT_ROWS
from evomem_stores.vectors.shard import Shard

if TYPE_CHECKING:  # importing it imports torch
    from evomem_stores.vectors.device_copy import Device

MIN_NEW_ROWS = 1024  # before a file is written: fewer are read as fast from the log
MIN_NEW_SHARE = 0.1  # new rows, as a share of all, before a file is written again


class _Cached:
    """A memory's shard, once it is loaded, and how many of its rows are on disk."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shard: Shard | None = None
        self.saved = 0

    @property
    def on_device(self) -> int:
        """Bytes of the shard's copy on the device."""
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
        min_new_rows: int = MIN_NEW_ROWS,
        exact_rows: int | None = MAX_EXACT_ROWS,
        device: Device | None = None,
    ) -> None:
        """Make an index.

        Args:
            store: The log.
            folder: The folder for files; None for no files.
            max_bytes: Bytes of shards in memory; the least recently used are evicted first.
            min_new_rows: The number of new rows after which a file is written.
            exact_rows: Larger memories are searched by their codes first (`codes`), so that a turn
                may be missed; None to search all exactly.
            device: The device that searches large memories, exactly instead of by their codes.
        """
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_new_rows = min_new_rows
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
        wanted = np.array(sorted(set(seqs)), np.int64)
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
        """See `Index.reading`. At its end, files are written and shards evicted."""
        if self._store.in_snapshot:  # inside another `reading`, which does this work
            yield
            return
        try:
            yield
        except HeadMoved:
            for span in view.spans:
                self._drop_outdated(span.memory)
            raise
        for span in view.spans:
            with self._guard:
                cached = self._cached.get(span.memory)
            if cached is not None:
                self._save(span.memory, cached)
        self._evict()

    def stats(self) -> dict[str, int]:
        """Return how many searches read all rows of a large memory because its codes did not suffice."""
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
                    continue  # outdated by a purge in another process; the next search rebuilds it
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
        """Copy a large shard to the device, if there is one; return whether the device has all rows."""
        if self._device is None or len(shard) <= self._device.rows:
            return False
        if shard.device_copy is None:
            shard.device_copy = self._device.empty_copy()
        return shard.device_copy.follow(shard.held)

    def _caught_up(self, span: Span, end: Mark, cached: _Cached) -> Shard:
        """Return the shard with the rows of a span, whose last row has the mark `end`.

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
        rows = self._store.vectors(Span(memory, shard.watermark + 1, MAX_SEQ), end.revision)
        shard.add(rows.seqs, rows.rows, rows.keys)
        cached.shard = shard
        if not shard.reaches(span.last, end):
            raise HeadMoved(f"memory {memory} was rewritten while it was searched")
        return shard

    def _drop_outdated(self, memory: int) -> None:
        """Drop a shard whose rows are no longer in the log."""
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
            self._remove(memory)  # the log has all of its rows
            return None
        return shard

    def _save(self, memory: int, cached: _Cached, *, evicted: bool = False) -> None:
        """Write the file of a memory, if enough rows are new or the shard was `evicted`.

        The log is checked before and after, in separate transactions: a purge in another process may
        have looked for the file before it existed.
        """
        if not self._folder:
            return
        with cached.lock:
            shard = cached.shard
            if shard is None:
                return
            new = len(shard) - cached.saved
            least = max(self._min_new_rows, MIN_NEW_SHARE * cached.saved)
            if not (new and len(shard) >= self._min_new_rows if evicted else new >= least):
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
                    f"index files cannot be written to {self._folder} ({error}): searches still work, "
                    "but every start reads the vectors from the database again",
                    stacklevel=2,
                )
        except EvomemError:  # the database was closed or re-encoded
            self._remove(memory)

    def _remove(self, memory: int) -> None:
        if self._folder:
            with suppress(OSError):  # a file that stays is invalidated by its revision
                self._path(memory).unlink(missing_ok=True)

    def _evict(self) -> None:
        evicted: OrderedDict[int, _Cached] = OrderedDict()
        with self._guard:
            size = sum(entry.shard.nbytes for entry in self._cached.values() if entry.shard)
            while size > self._max_bytes and len(self._cached) > 1:
                memory, entry = self._cached.popitem(last=False)
                size -= entry.shard.nbytes if entry.shard else 0
                evicted[memory] = entry
        self._release(evicted)
        self._make_room()

    def _make_room(self) -> None:
        """Evict the least recently used copies from the device while they exceed its limit."""
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

    def _release(self, cached: OrderedDict[int, _Cached]) -> None:
        """Save shards that have unsaved rows, unless the log has been rewritten since."""
        for memory, entry in cached.items():
            self._save(memory, entry, evicted=True)

    def _after_fork(self) -> None:
        """Keep only the shards that no other thread was changing, in a forked child."""
        self._guard = threading.Lock()
        # `locked()` is False while a thread that waited for the lock has it, but not yet the GIL.
        free = [
            (memory, cached)
            for memory, cached in self._cached.items()
            if cached.lock.acquire(blocking=False)
        ]
        for _, cached in free:
            cached.lock.release()
        self._cached = OrderedDict(free)

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
        """Return whether the log still has a shard's rows unchanged, with or without newer rows."""
        return self._store.mark(memory, shard.watermark) == shard.mark

    def _log_problem(self, memory: int, shard: Shard) -> str | None:
        """Return how a shard differs from the log, apart from missing new rows; None if it does not."""
        if not self._is_of_the_log(memory, shard):
            return "has rows that are not, or no longer, in the log"
        rows = self._store.vectors(Span(memory, 1, shard.watermark), shard.revision)
        same = np.array_equal(rows.seqs, shard.seqs)
        if not (same and np.array_equal(rows.vectors, shard.vectors)):
            return "differs from the log"
        if shard.codes and not shard.codes.fits(shard.vectors[: len(shard.codes)]):
            return "has codes that do not match its vectors"
        if shard.device_copy and not shard.device_copy.fits(
            shard.vectors[: len(shard.device_copy)]
        ):
            return "has different vectors on its device"
        return None
