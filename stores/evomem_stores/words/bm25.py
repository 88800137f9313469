"""Words and BM25: how a text becomes terms, and how a view's turns are scored by them.

A database's own full-text search counts over its whole table: how often a word occurs in other
people's memories, and in turns that came later, would move the scores, and so tell about them. Here
the statistics are those of one view: what it can see, and nothing else.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import Stemmer

from evomem._forking import reset_in_child
from evomem.scores import Scores
from evomem.store import Seqs

Places = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.integer[Any]]

K1, B = 1.5, 0.75  # as in bm25s
MAX_TERM = 64  # characters; longer ones (encoded files, mostly) are cut, in texts and queries alike
STOPWORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)
ANALYSER = f"1 snowball-english {Stemmer.version()}"
"""Names what `terms` does: an index written by another analyser is written anew."""

# Han, kana and Hangul: words that no space divides
_CJK = r"\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
_PART = re.compile(rf"[{_CJK}]+|[^\W{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")
_stemmer = Stemmer.Stemmer("english")
_stemming = threading.Lock()  # a stemmer has internal state


def _after_fork() -> None:
    global _stemmer, _stemming
    _stemmer, _stemming = Stemmer.Stemmer("english"), threading.Lock()


reset_in_child(_after_fork)


def terms(text: str) -> list[str]:
    """Return the terms of a text, in order and with repetitions.

    Compatibility forms and case are folded, English stop words dropped (unless nothing else is
    said), English endings cut. A run of Han, kana or Hangul yields its characters and its pairs
    of neighbours.

    >>> terms("The cats WERE sleeping in Paris")
    ['cat', 'were', 'sleep', 'pari']
    >>> terms("to be")
    ['to', 'be']
    >>> terms("東京都")
    ['東', '京', '都', '東京', '京都']
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words: list[str] = []
    for part in _PART.findall(folded):
        if _IS_CJK.match(part):
            words += [*part, *(part[i : i + 2] for i in range(len(part) - 1))]
        else:
            words.append(part[:MAX_TERM])
    kept = [word for word in words if word not in STOPWORDS] or words
    with _stemming:
        stems: list[str] = _stemmer.stemWords(kept)
    return stems


class Postings(NamedTuple):
    """Where a term occurs."""

    places: Places
    """(p,) places of turns, ascending; no turn twice."""
    counts: Counts
    """(p,) how often in each."""


class Part(NamedTuple):
    """Turns of one log, and where a query's terms are in them."""

    seqs: Seqs
    """(n,) ascending."""
    lengths: Counts
    """(n,) how many terms each turn has."""
    postings: Mapping[str, Postings]
    """By term; places count from the first of `seqs`."""

    def without(self, gone: Seqs) -> Part:
        """Return the part as if the turns `gone` had never been."""
        places = np.searchsorted(self.seqs, gone)
        there = places < np.searchsorted(self.seqs, gone, side="right")
        if not there.any():
            return self
        shown = np.ones(len(self.seqs), bool)
        shown[places[there]] = False
        moved = np.cumsum(shown) - 1
        postings = {}
        for term, found in self.postings.items():
            kept = shown[found.places]
            postings[term] = Postings(moved[found.places[kept]], found.counts[kept])
        return Part(self.seqs[shown], self.lengths[shown], postings)


def bm25(query: Mapping[str, int], parts: Sequence[Part]) -> Scores:
    """Return the BM25 of every turn that has a term of the query (Lucene's form of it).

    Args:
        query: How often each term occurs in the query.
        parts: All turns that count, in the order of their seqs, and the postings of each term.

    >>> cat = Postings(np.array([1]), np.array([2]))
    >>> scores = bm25({"cat": 1}, [Part(np.array([6, 7]), np.array([4, 4]), {"cat": cat})])
    >>> [(seq, round(score, 6)) for seq, score in scores]
    [(7, 0.396084)]
    """
    turns = sum(len(part.seqs) for part in parts)
    words = sum(int(part.lengths.sum()) for part in parts)
    mean = words / turns if turns else 0.0
    sums = [np.zeros(len(part.seqs)) for part in parts]
    for term, times in query.items():
        having = sum(len(part.postings[term].places) for part in parts)
        if not having:
            continue
        weight = times * math.log(1 + (turns - having + 0.5) / (having + 0.5))
        for part, scores in zip(parts, sums, strict=True):
            places, counts = part.postings[term]
            share = counts / (counts + K1 * (1 - B + B * part.lengths[places] / mean))
            scores[places] += weight * share
    found = [np.flatnonzero(scores > 0) for scores in sums]  # quicker than of the numbers
    seqs = [part.seqs[places] for part, places in zip(parts, found, strict=True)]
    values = [scores[places] for scores, places in zip(sums, found, strict=True)]
    return Scores(
        np.concatenate([np.zeros(0, np.int64), *seqs]), np.concatenate([np.zeros(0), *values])
    )
