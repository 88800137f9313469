"""The vectors of one memory's own turns: nearest turns by inner product.

A turn has one row, or one for each of its passages, and then the best of them speaks for it. Rows are
held as the log has them. Those of an index file stay where the file is mapped; new ones lie beside.

Small shards are searched exactly, by FAISS, in float32. In a large one, a `Codes` names the rows that
are worth an exact look; where it may have left one out, all are read. If there is a device, it reads
them (`DeviceCopy`).
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
from evomem_stores.vectors.codes import GROWTH, SAMPLE, Codes, faiss
from evomem_stores.vectors.held import Held

if TYPE_CHECKING:  # torch comes only with a device
    from evomem_stores.vectors.device_copy import DeviceCopy

MARGIN = 16  # rows asked for beyond k, to see that nothing at the k-th place was cut off
FEW = 512  # so few rows are scored directly, without a selector
NAMED = 512  # rows that the codes are asked for, at least,
PER_HIT = 16  # and for each hit,
MORE = 4  # and so many times as many where the codes do not tell the hits from other rows
CODED_AT_ONCE = 2**14

Places = npt.NDArray[np.int64]
ALL = Selection()
KEY = np.dtype((np.void, KEY_BYTES))


class Shard:
    """Rows of one log, ascending by seq, as they were at one revision. Not safe for threads.

    The rows of one turn have the same seq and key, lie side by side, and are added together.
    """

    def __init__(self, dim: int, revision: int) -> None:
        self.revision = revision
        self.codes: Codes | None = None
        self.device_copy: DeviceCopy | None = None
        self.read_all = 0
        """How often the codes were not enough to find the best rows, so that all were read."""
        self.held = Held(dim)
        self._seqs = np.zeros(0, np.int64)
        self._keys = np.zeros(0, KEY)
        self._several = False  # whether a turn has more than one row

    @classmethod
    def mapped(
        cls, rows: Rows, seqs: Seqs, keys: npt.NDArray[np.void], dim: int, revision: int
    ) -> Shard:
        """Return a shard of the rows of an index file, which are not copied."""
        shard = cls(dim, revision)
        shard.held = Held(dim, rows)
        shard._seqs, shard._keys = seqs, keys
        shard._note(seqs)
        return shard

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.held)

    @property
    def seqs(self) -> Seqs:
        """(n,) the seq of each row, ascending: FAISS itself counts rows from 0."""
        return self._seqs[: len(self)]

    @property
    def keys(self) -> npt.NDArray[np.void]:
        """(n,) digests of the log up to each row: they tell of which log the rows are."""
        return self._keys[: len(self)]

    @property
    def vectors(self) -> Vectors:
        """(n, D) float32: all rows, as they are compared; not to be written to."""
        return self.held.between(0, len(self))

    @property
    def watermark(self) -> int:
        """The newest seq, 0 where there is none."""
        return int(self.seqs[-1]) if len(self) else 0

    @property
    def mark(self) -> Mark:
        """The mark of the newest row."""
        return Mark(self.revision, self.keys[-1].tobytes() if len(self) else None)

    def reaches(self, seq: int, end: Mark) -> bool:
        """Return whether there is a row at `seq` with the mark `end`: then all rows before it match."""
        if self.revision != end.revision:
            return False
        place = int(np.searchsorted(self.seqs, seq))
        here = place < len(self) and self.seqs[place] == seq
        return bool(here and self.keys[place].tobytes() == end.key)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        codes = self.codes  # another thread may ask
        return self.held.nbytes + 24 * len(self) + 1024 + (codes.nbytes if codes else 0)

    def add(self, seqs: Seqs, rows: Rows, keys: Sequence[bytes]) -> None:
        """Append the rows of turns after the watermark; `seqs` ascending."""
        if len(self) + len(seqs) > len(self._seqs):  # double, so that adding stays cheap
            spare = len(self) + 2 * len(seqs)
            self._seqs = np.concatenate([self.seqs, np.zeros(spare, np.int64)])
            self._keys = np.concatenate([self.keys, np.zeros(spare, KEY)])
        new = slice(len(self), len(self) + len(seqs))
        self._seqs[new] = seqs
        self._keys[new] = np.frombuffer(b"".join(keys), KEY)
        self.held.add(rows)
        self._note(seqs)

    def _note(self, seqs: Seqs) -> None:
        self._several = self._several or bool((np.diff(seqs) == 0).any())

    def encode(self) -> None:
        """Ensure codes of all rows; learn them if there are none, or only for far fewer rows."""
        if self.codes is None or len(self) >= GROWTH * self.codes.learned:
            step = max(1, len(self) // SAMPLE)
            self.codes = Codes.learn(self.held.take(np.arange(0, len(self), step)), len(self))
        for start in range(len(self.codes), len(self), CODED_AT_ONCE):
            self.codes.add(self.held.between(start, min(start + CODED_AT_ONCE, len(self))))
        self.held.narrow()

    def nearest(
        self, span: Span, query: Vectors, k: int, chosen: Selection = ALL
    ) -> list[tuple[int, float]]:
        """Return the `k` best (seq, cosine) of a span, best first, ties by newer seq."""
        chosen = Selection(*(_cut(seqs, span) for seqs in chosen))
        places = self._named(span, query, k, chosen) if self.codes else None
        if places is None:
            inside = self._inside(span)
            if chosen.allowed is None:
                places = np.arange(inside.start, inside.stop)
            else:
                places = self._places(chosen.allowed)
            gone = np.zeros(0, np.int64)
            if chosen.without is not None:
                gone = self._places(chosen.without)
            if len(places) > max(FEW, k + MARGIN):
                places = self._narrow(places, query, k, gone)
            elif len(gone):
                places = np.setdiff1d(places, gone, assume_unique=True)
        return top_k(self._best(places, query), k)

    def score(self, seqs: Seqs, query: Vectors) -> dict[int, float]:
        """Return the cosine of those of `seqs` (ascending) that are there."""
        return self._best(self._places(seqs), query)

    def _named(self, span: Span, query: Vectors, k: int, chosen: Selection) -> Places | None:
        """Return the best of the rows that the codes name; None if others may be as good.

        That is so where less than half of the rows may be found, or so many hits are wanted that
        reading all rows is as quick; and where the codes do not tell the hits from other rows.
        """
        assert self.codes
        inside = self._inside(span)
        if chosen.allowed is not None:
            count = self._rows_of(chosen.allowed)
        else:
            count = len(inside) - (0 if chosen.without is None else self._rows_of(chosen.without))
        wanted = max(NAMED, PER_HIT * k)
        if 2 * count < len(self) or 8 * wanted > len(self):
            return None
        while 4 * wanted <= len(self):
            nearest = self._told(inside, query, k, chosen, wanted, count)
            if nearest is not None:
                return nearest
            wanted *= MORE
        self.read_all += 1
        return None

    def _told(
        self, inside: range, query: Vectors, k: int, chosen: Selection, wanted: int, count: int
    ) -> Places | None:
        """Return the best of the `wanted` rows that the codes name of `count` that may be found."""
        assert self.codes
        asked = min(len(self), wanted * len(self) // count)
        places, rough = self.codes.nearest(query, asked)
        if chosen.allowed is None:
            allowed = (places >= inside.start) & (places < inside.stop)
            if chosen.without is not None and len(chosen.without):
                allowed &= ~_are_among(self.seqs[places], chosen.without)
        else:
            allowed = _are_among(self.seqs[places], chosen.allowed)
        places, rough = places[allowed], rough[allowed]
        if len(places) < wanted // 2:
            return None
        products = scan.products(self.held, places, query)
        worst = self._worst(places, products, k)
        if worst is None:
            return None
        best = products >= worst - _slack(query)
        # A hit that its code puts so low might as well have been beyond the end of the list.
        if rough[best].min() <= rough[len(rough) // 2]:
            return None
        nearest: Places = places[best]
        return nearest

    def _narrow(self, places: Places, query: Vectors, k: int, gone: Places) -> Places:
        """Return the places that the `k` best turns are among, and what ties with the last.

        Those of `places` that are `gone` are left out: they are few, and asked for with the others.
        """
        slack = _slack(query)
        if self.device_copy:
            places = np.setdiff1d(places, gone, assume_unique=True)
            if len(places) <= k:
                return places
            gone = gone[:0]
            turns = self.seqs[places] if self._several else None
            near = self.device_copy.narrow(places, query, k, slack, turns)
            if near is not None:
                return near
        if len(places) == places[-1] - places[0] + 1:
            selector = faiss.IDSelectorRange(int(places[0]), int(places[-1]) + 1)
        else:
            bits = np.zeros(len(self), np.uint8)
            bits[places] = 1
            selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        wanted, worst = k + MARGIN, None
        while worst is None and wanted < len(places) and self.codes is None:
            near, scores = scan.nearest(self.held.wide(), query, wanted, selector)
            least = float(scores[-1])
            if len(gone):
                shown = ~_are_among(near, gone)
                scores, near = scores[shown], near[shown]
            worst = self._worst(near, scores, k)
            if worst is not None and least < worst - slack:
                narrowed: Places = near[scores >= worst - slack]
                return narrowed
            wanted *= 4  # the best rows are of few turns
        # Many rows score alike, or are of few turns, or are not in float32: look at all of them.
        places = np.setdiff1d(places, gone, assume_unique=True)
        products = scan.products(self.held, places, query)
        worst = self._worst(places, products, k)
        tied: Places = places if worst is None else places[products >= worst - slack]
        return tied

    def _worst(self, places: Places, scores: Vectors, k: int) -> float | None:
        """Return the score of the `k`-th best turn among these rows; None where there are fewer."""
        if self._several:
            order = np.argsort(-scores)
            first = np.unique(self.seqs[places][order], return_index=True)[1]
            scores = scores[order[first]]
        return float(np.partition(scores, -k)[-k]) if k <= len(scores) else None

    def _rows_of(self, seqs: Seqs) -> int:
        """Return how many rows those of `seqs` (ascending) have that are there."""
        return len(self._places(seqs)) if self._several else len(seqs)

    def _inside(self, span: Span) -> range:
        """Return the positions of a span's rows."""
        return range(*np.searchsorted(self.seqs, (span.first, span.last + 1)).tolist())

    def _places(self, seqs: Seqs) -> Places:
        """Return where the rows of those of `seqs` (ascending) that are there lie, ascending."""
        places = np.searchsorted(self.seqs, seqs)
        if self._several:
            counts = np.searchsorted(self.seqs, seqs, side="right") - places
            before = np.cumsum(counts) - counts
            rows: Places = np.repeat(places - before, counts) + np.arange(counts.sum())
            return rows
        places = places[places < len(self)] if len(self) else places[:0]
        seqs = seqs[: len(places)]  # ascending: what follows the end is at the end
        present: Places = places[self.seqs[places] == seqs]
        return present

    def _best(self, places: Places, query: Vectors) -> dict[int, float]:
        """Return the cosine of each turn that has one of the rows: that of its best one."""
        best: dict[int, float] = {}
        for seq, score in zip(self.seqs[places].tolist(), self._score(places, query), strict=True):
            best[seq] = max(score, best.get(seq, score))
        return best

    def _score(self, places: Places, query: Vectors) -> list[float]:
        """Return cosines that depend only on the two vectors, not on the rows around them.

        Sums in blocks, as in a matrix product, differ in the last bits with a row's place. Here
        equal rows score equally in every memory and at every point of it.
        """
        wide = self.held.take(places).astype(np.float64)
        wide *= query.astype(np.float64)
        scores: list[float] = wide.sum(axis=1).astype(np.float32).astype(float).tolist()
        return scores


def _cut(seqs: Seqs | None, span: Span) -> Seqs | None:
    """Return those of `seqs` (ascending) that are in a span."""
    if seqs is None:
        return None
    return seqs[slice(*np.searchsorted(seqs, (span.first, span.last + 1)))]


def _are_among(numbers: Seqs, listed: Seqs) -> npt.NDArray[np.bool_]:
    """Say of each of `numbers` whether it is one of `listed`, which are ascending, and not none."""
    among: npt.NDArray[np.bool_] = listed[np.searchsorted(listed[:-1], numbers)] == numbers
    return among


def _slack(query: Vectors) -> float:
    """Return what float32 sums of D products can be off by, of two scores together."""
    return 4 * len(query) * float(np.finfo(np.float32).eps)
