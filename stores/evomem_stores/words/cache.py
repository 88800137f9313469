"""`WordCache`: a cache of postings read from the word index.

A memory's log only grows at its end, except that a purge changes it and raises its revision. So
cached postings stay valid, and a query only reads those of newer turns. This happens in the query's
transaction, which sees what other processes have written.

Cached values are replaced, never changed, so that readers can keep using them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection

from evomem.errors import DatabaseDamaged, IntegrityError
from evomem.lru_cache import LruCache
from evomem.store import Seqs, Span
from evomem_stores.database.extent import extent
from evomem_stores.database.tables import MAX_SEQ
from evomem_stores.words import inverted_index
from evomem_stores.words.bm25 import Counts, Part, Places, Postings

ReadOnce = Callable[[Hashable, Callable[[], Any]], Any]

MAX_BYTES = 2**27  # of lengths, and again of postings: some ten million of each


class Rows(NamedTuple):
    """A memory's own rows at one revision, up to its head."""

    origin: object
    """Identifies rows that grew from one read: the same places in them are the same rows."""
    revision: int
    head: int
    key: bytes | None
    """The key of the newest row."""
    seqs: Seqs
    """(n,) ascending."""
    lengths: Counts
    """(n,) int32: the number of terms of each row."""

    @property
    def last(self) -> int:
        """The newest row's seq, 0 if there are no rows."""
        return int(self.seqs[-1]) if len(self.seqs) else 0


class _TermPostings(NamedTuple):
    """The postings of a term in the first `upto` rows."""

    origin: object
    upto: int
    postings: Postings


class WordCache:
    """Lengths and postings by memory; the least recently used are evicted first. Thread-safe."""

    def __init__(self, max_bytes: int = MAX_BYTES, read_once: ReadOnce | None = None) -> None:
        """Hold at most `max_bytes` of lengths, and as many of postings.

        `read_once` caches reads within a snapshot (`Connections.read_once`).
        """
        self._read_once = read_once or (lambda _, read: read())
        self._rows: LruCache[int, Rows] = LruCache(max_bytes, _rows_size)
        self._cached_postings: LruCache[tuple[int, str], _TermPostings] = LruCache(
            max_bytes, _postings_size
        )

    def part(self, connection: Connection, span: Span, terms: Iterable[str]) -> Part:
        """Return the rows of a span, and the postings of `terms` in them.

        Raises:
            DatabaseDamaged: The word index has turns that do not exist.
        """
        rows = self._read_once(("words", span.memory), lambda: self._read(connection, span.memory))
        if rows is None:
            return WordCache(0).part(connection, span, terms)
        first, end = (
            int(place) for place in np.searchsorted(rows.seqs, (span.first, span.last + 1))
        )
        postings = {}
        for term, (places, counts) in self._postings(connection, span.memory, rows, terms).items():
            inside = slice(*np.searchsorted(places, (first, end)))
            postings[term] = Postings(places[inside] - first, counts[inside])
        return Part(rows.seqs[first:end], rows.lengths[first:end], postings)

    def forget(self, memory: int) -> None:
        """Remove everything about a memory."""
        self._rows.forget(lambda key: key == memory)
        self._cached_postings.forget(lambda key: key[0] == memory)

    # ---------------------------------------------------------------------------------------

    def _read(self, connection: Connection, memory: int) -> Rows | None:
        """Return a memory's own rows as the transaction sees them; None if the cache has newer ones.

        Then the transaction is older than the one that cached the rows, or the server has lost its
        last writes in a crash, and other turns may take their place.
        """
        known = self._rows.get(memory)
        revision, head, count, key = extent(connection, memory, known.last if known else 0)
        if known is not None and known.revision != revision:
            self.forget(memory)  # it may hold words of purged turns
            known = None
        if known is None:
            known = _no_rows(revision)
        elif head < known.last:
            return None
        elif key != known.key:  # other turns have taken the place of lost ones
            known = _no_rows(revision)
        if known.head < head:
            new_rows = inverted_index.lengths(connection, Span(memory, known.last + 1, MAX_SEQ))
            known = known._replace(
                head=head,
                seqs=np.concatenate([known.seqs, new_rows[0]]),
                lengths=np.concatenate([known.lengths, new_rows[1].astype(np.int32)]),
            )
            if len(known.seqs) != count:
                raise IntegrityError(
                    f"memory {memory} has {len(known.seqs)} turns of its own, not the {count} that "
                    "were written: run verify, and restore the database from a backup"
                )
            known = known._replace(key=extent(connection, memory, known.last).key)
            self._rows.put(memory, known)
        return known

    def _postings(
        self, connection: Connection, memory: int, rows: Rows, terms: Iterable[str]
    ) -> dict[str, Postings]:
        """Return the postings of terms in a memory's own rows."""
        known: dict[str, _TermPostings] = {}
        behind: defaultdict[int, list[str]] = defaultdict(list)
        for term in terms:
            cached = self._cached_postings.get((memory, term))
            if cached is None or cached.origin is not rows.origin:
                cached = _TermPostings(rows.origin, 0, Postings(_NONE, _NONE))
            known[term] = cached
            if cached.upto < len(rows.seqs):
                behind[cached.upto].append(term)
        for upto, missing in behind.items():
            after = int(rows.seqs[upto - 1]) if upto else 0
            new_counts = inverted_index.counts(
                connection, Span(memory, after + 1, rows.last), missing
            )
            for term, (seqs, counts) in new_counts.items():
                places = np.searchsorted(rows.seqs, seqs)
                if not np.array_equal(rows.seqs[places[places < len(rows.seqs)]], seqs):
                    raise DatabaseDamaged(
                        f"the word index has turns of memory {memory} that do not exist: "
                        "evomem verify --repair rebuilds it from the turns"
                    )
                postings = Postings(
                    np.concatenate([known[term].postings.places, places.astype(np.int32)]),
                    np.concatenate([known[term].postings.counts, counts.astype(np.int32)]),
                )
                known[term] = _TermPostings(rows.origin, len(rows.seqs), postings)
                self._cached_postings.put((memory, term), known[term])
        return {term: cached.postings for term, cached in known.items()}


_NONE: Places = np.zeros(0, np.int32)


def _no_rows(revision: int) -> Rows:
    return Rows(object(), revision, 0, None, np.zeros(0, np.int64), _NONE)


def _rows_size(rows: Rows) -> int:
    return rows.seqs.nbytes + rows.lengths.nbytes + 512


def _postings_size(cached: _TermPostings) -> int:
    return cached.postings.places.nbytes + cached.postings.counts.nbytes + 1024
