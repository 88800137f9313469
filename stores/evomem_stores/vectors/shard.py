"""`Shard`: the vectors of one memory's own turns, and search for the nearest by inner product.

A turn has one row, or one per passage; its score is that of its best row. Rows have the log's form.
Rows of an index file stay in the mapped file; new rows are kept in memory.

Small shards are searched exactly: `Coarse` selects candidates that include all hits. In a large shard,
`Codes` select candidates; if they may have missed a hit, all rows are read, on a device if there is one
(`DeviceCopy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evomem.rows import Rows
from evomem.search.ranking import top_k
from evomem.state import KEY_BYTES, Vectors
from evomem.store import Mark, Selection, Seqs, Span
from evomem_stores.vectors import scan
from evomem_stores.vectors.coarse import Coarse
from evomem_stores.vectors.codes import RETRAIN_GROWTH, SAMPLE_ROWS, Codes, faiss
from evomem_stores.vectors.held import Held

if TYPE_CHECKING:  # importing it imports torch
    from evomem_stores.vectors.device_copy import DeviceCopy

MARGIN = 32  # rows requested beyond k (and twice), since coarse products order rows differently
DIRECT_ROWS = 512  # up to this many rows are scored directly, without a selector
MIN_CANDIDATES = 512  # rows requested of the codes, at least
CANDIDATES_PER_HIT = 16  # rows requested of the codes per hit
CANDIDATE_GROWTH = 4  # more candidates if the codes do not separate the hits from other rows
CODED_PER_BLOCK = 2**14

Places = npt.NDArray[np.int64]
ALL = Selection()
KEY_TYPE = np.dtype((np.void, KEY_BYTES))


class Shard:
    """Rows of one log at one revision, ascending by seq. Not safe for threads.

    The rows of a turn have the same seq and key, are adjacent, and are added together.
    """

    def __init__(self, dim: int, revision: int) -> None:
        self.revision = revision
        self.codes: Codes | None = None
        self.device_copy: DeviceCopy | None = None
        self._coarse: Coarse | None = None
        self._was_scanned = False
        self.read_all = 0
        """How often all rows were read because the codes did not suffice."""
        self.held = Held(dim)
        self._seqs = np.zeros(0, np.int64)
        self._keys = np.zeros(0, KEY_TYPE)
        self._has_passages = False  # whether a turn has more than one row

    @classmethod
    def mapped(
        cls, rows: Rows, seqs: Seqs, keys: npt.NDArray[np.void], dim: int, revision: int
    ) -> Shard:
        """Return a shard of the rows of an index file, without copying them."""
        shard = cls(dim, revision)
        shard.held = Held(dim, rows)
        shard._seqs, shard._keys = seqs, keys
        shard._note_passages(seqs)
        return shard

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.held)

    @property
    def seqs(self) -> Seqs:
        """(n,) the seq of each row, ascending; FAISS itself counts rows from 0."""
        return self._seqs[: len(self)]

    @property
    def keys(self) -> npt.NDArray[np.void]:
        """(n,) digests of the log up to each row, which identify the log."""
        return self._keys[: len(self)]

    @property
    def vectors(self) -> Vectors:
        """(n, D) float32: all rows; the caller must not change them."""
        return self.held.between(0, len(self))

    @property
    def watermark(self) -> int:
        """The newest seq, 0 if there are no rows."""
        return int(self.seqs[-1]) if len(self) else 0

    @property
    def mark(self) -> Mark:
        """The mark of the newest row."""
        return Mark(self.revision, self.keys[-1].tobytes() if len(self) else None)

    def reaches(self, seq: int, end: Mark) -> bool:
        """Return whether the row at `seq` has the mark `end`; if so, all rows before it match the log."""
        if self.revision != end.revision:
            return False
        place = int(np.searchsorted(self.seqs, seq))
        exists = place < len(self) and self.seqs[place] == seq
        return bool(exists and self.keys[place].tobytes() == end.key)

    @property
    def nbytes(self) -> int:
        """Approximate bytes in memory."""
        copies = self.codes, self._coarse  # another thread may change them
        size = sum(copy.nbytes for copy in copies if copy)
        return self.held.nbytes + 24 * len(self) + 1024 + size

    def add(self, seqs: Seqs, rows: Rows, keys: Sequence[bytes]) -> None:
        """Append rows of turns after the watermark; `seqs` are ascending."""
        if len(self) + len(seqs) > len(self._seqs):  # double, so that adding stays cheap
            spare = len(self) + 2 * len(seqs)
            self._seqs = np.concatenate([self.seqs, np.zeros(spare, np.int64)])
            self._keys = np.concatenate([self.keys, np.zeros(spare, KEY_TYPE)])
        new = slice(len(self), len(self) + len(seqs))
        self._seqs[new] = seqs
        self._keys[new] = np.frombuffer(b"".join(keys), KEY_TYPE)
        self.held.add(rows)
        self._note_passages(seqs)

    def _note_passages(self, seqs: Seqs) -> None:
        self._has_passages = self._has_passages or bool((np.diff(seqs) == 0).any())

    def encode(self) -> None:
        """Code all rows; learn the codes first if there are none, or if the shard has grown a lot."""
        if self.codes is None or len(self) >= RETRAIN_GROWTH * self.codes.learned:
            step = max(1, len(self) // SAMPLE_ROWS)
            self.codes = Codes.learn(self.held.take(np.arange(0, len(self), step)), len(self))
        for start in range(len(self.codes), len(self), CODED_PER_BLOCK):
            self.codes.add(self.held.between(start, min(start + CODED_PER_BLOCK, len(self))))
        self._coarse = None

    def nearest(
        self, span: Span, query: Vectors, k: int, chosen: Selection = ALL
    ) -> list[tuple[int, float]]:
        """Return the `k` best (seq, cosine) of a span, best first, ties by newer seq."""
        chosen = Selection(*(_inside_span(seqs, span) for seqs in chosen))
        places = self._nearest_by_codes(span, query, k, chosen) if self.codes else None
        if places is None:
            inside = self._inside(span)
            if chosen.allowed is None:
                places = np.arange(inside.start, inside.stop)
            else:
                places = self._places(chosen.allowed)
            excluded = np.zeros(0, np.int64)
            if chosen.without is not None:
                excluded = self._places(chosen.without)
            if len(places) > max(DIRECT_ROWS, k + MARGIN):
                places = self._narrow(places, query, k, excluded)
            elif len(excluded):
                places = np.setdiff1d(places, excluded, assume_unique=True)
        return top_k(self._best_row_per_turn(places, query), k)

    def score(self, seqs: Seqs, query: Vectors) -> dict[int, float]:
        """Return the cosines of those of `seqs` (ascending) that the shard has."""
        return self._best_row_per_turn(self._places(seqs), query)

    def _nearest_by_codes(
        self, span: Span, query: Vectors, k: int, chosen: Selection
    ) -> Places | None:
        """Return the best rows according to the codes; None if they may have missed some.

        None if the selection allows less than half of the rows, if `k` is so large that reading all
        rows is as fast, or if the codes do not separate the hits from other rows.
        """
        assert self.codes
        inside = self._inside(span)
        if chosen.allowed is not None:
            count = self._rows_of(chosen.allowed)
        else:
            count = len(inside) - (0 if chosen.without is None else self._rows_of(chosen.without))
        candidates = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * k)
        if 2 * count < len(self) or 8 * candidates > len(self):
            return None
        while 4 * candidates <= len(self):
            nearest = self._rescore_candidates(inside, query, k, chosen, candidates, count)
            if nearest is not None:
                return nearest
            candidates *= CANDIDATE_GROWTH
        self.read_all += 1
        return None

    def _rescore_candidates(
        self, inside: range, query: Vectors, k: int, chosen: Selection, candidates: int, count: int
    ) -> Places | None:
        """Score `candidates` rows selected by the codes exactly; return the best, None if too few.

        `count` is the number of rows that the selection allows.
        """
        assert self.codes
        requested = min(len(self), candidates * len(self) // count)
        places, rough = self.codes.nearest(query, requested)
        if chosen.allowed is None:
            allowed = (places >= inside.start) & (places < inside.stop)
            if chosen.without is not None and len(chosen.without):
                allowed &= ~_are_among(self.seqs[places], chosen.without)
        else:
            allowed = _are_among(self.seqs[places], chosen.allowed)
        places, rough = places[allowed], rough[allowed]
        if len(places) < candidates // 2:
            return None
        products = scan.products(self.held, places, query)
        worst = self._kth_best(places, products, k)
        if worst is None:
            return None
        best = products >= worst - _slack(query)
        # If codes rank a hit this low, they may have ranked another beyond the end of the list.
        if rough[best].min() <= rough[len(rough) // 2]:
            return None
        nearest: Places = places[best]
        return nearest

    def _narrow(self, places: Places, query: Vectors, k: int, excluded: Places) -> Places:
        """Return places that include the `k` best turns and ties with the last of them.

        `excluded` places are left out of the result, but not of the scan: they are few.
        """
        slack = _slack(query)
        if self.device_copy:
            places = np.setdiff1d(places, excluded, assume_unique=True)
            if len(places) <= k:
                return places
            excluded = excluded[:0]
            turns = self.seqs[places] if self._has_passages else None
            near = self.device_copy.narrow(places, query, k, slack, turns)
            if near is not None:
                return near
        if len(places) == places[-1] - places[0] + 1:
            selector = faiss.IDSelectorRange(int(places[0]), int(places[-1]) + 1)
        else:
            bits = np.zeros(len(self), np.uint8)
            bits[places] = 1
            selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        wanted = 2 * (k + MARGIN)
        # Making the coarse copy takes as long as three exact scans: not for the first search.
        is_first, self._was_scanned = not self._was_scanned, True
        while 2 * wanted <= len(places) and self.codes is None and not is_first:
            near, rough, error = self._caught_up_coarse().nearest(query, wanted, selector)
            best_missed = float(rough[-1]) + error + slack
            if len(excluded):
                near = near[~_are_among(near, excluded)]
            scores = scan.products(self.held, near, query)
            worst = self._kth_best(near, scores, k)
            if worst is not None and best_missed < worst - slack:
                narrowed: Places = near[scores >= worst - slack]
                return narrowed
            wanted *= CANDIDATE_GROWTH
        # Many rows have similar scores, belong to few turns, or have no coarse copy: score all of them.
        places = np.setdiff1d(places, excluded, assume_unique=True)
        products = scan.products(self.held, places, query)
        worst = self._kth_best(places, products, k)
        tied: Places = places if worst is None else places[products >= worst - slack]
        return tied

    def _caught_up_coarse(self) -> Coarse:
        if self._coarse is None or self._coarse.is_outgrown(self.held):
            self._coarse = Coarse(self.held)
        self._coarse.follow(self.held)
        return self._coarse

    def _kth_best(self, places: Places, scores: Vectors, k: int) -> float | None:
        """Return the score of the `k`-th best turn among these rows; None if there are fewer turns."""
        if self._has_passages:
            order = np.argsort(-scores)
            first = np.unique(self.seqs[places][order], return_index=True)[1]
            scores = scores[order[first]]
        return float(np.partition(scores, -k)[-k]) if k <= len(scores) else None

    def _rows_of(self, seqs: Seqs) -> int:
        """Return how many rows the shard has of `seqs` (ascending)."""
        return len(self._places(seqs)) if self._has_passages else len(seqs)

    def _inside(self, span: Span) -> range:
        """Return the places of a span's rows."""
        return range(*np.searchsorted(self.seqs, (span.first, span.last + 1)).tolist())

    def _places(self, seqs: Seqs) -> Places:
        """Return the places, ascending, of the rows that the shard has of `seqs` (ascending)."""
        places = np.searchsorted(self.seqs, seqs)
        if self._has_passages:
            counts = np.searchsorted(self.seqs, seqs, side="right") - places
            before = np.cumsum(counts) - counts
            rows: Places = np.repeat(places - before, counts) + np.arange(counts.sum())
            return rows
        places = places[places < len(self)] if len(self) else places[:0]
        seqs = seqs[: len(places)]  # the seqs beyond the newest row come last
        present: Places = places[self.seqs[places] == seqs]
        return present

    def _best_row_per_turn(self, places: Places, query: Vectors) -> dict[int, float]:
        """Return the cosine of each turn among these rows: that of its best row."""
        best: dict[int, float] = {}
        for seq, score in zip(self.seqs[places].tolist(), self._score(places, query), strict=True):
            best[seq] = max(score, best.get(seq, score))
        return best

    def _score(self, places: Places, query: Vectors) -> list[float]:
        """Return cosines that depend only on the two vectors, not on a row's position.

        The blocked sums of a matrix product differ in the last bits with the position of a row. Here,
        equal rows have equal scores in every memory and every view.
        """
        wide = self.held.take(places).astype(np.float64)
        wide *= query.astype(np.float64)
        scores: list[float] = wide.sum(axis=1).astype(np.float32).astype(float).tolist()
        return scores


def _inside_span(seqs: Seqs | None, span: Span) -> Seqs | None:
    """Return those of `seqs` (ascending) that are in a span."""
    if seqs is None:
        return None
    return seqs[slice(*np.searchsorted(seqs, (span.first, span.last + 1)))]


def _are_among(numbers: Seqs, listed: Seqs) -> npt.NDArray[np.bool_]:
    """Return for each of `numbers` whether it is in `listed`, which is ascending and not empty."""
    among: npt.NDArray[np.bool_] = listed[np.searchsorted(listed[:-1], numbers)] == numbers
    return among


def _slack(query: Vectors) -> float:
    """Return the greatest rounding error of two float32 sums of D products together."""
    return 4 * len(query) * float(np.finfo(np.float32).eps)
