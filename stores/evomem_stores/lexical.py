"""Words and BM25: how a text becomes terms, and how a view's turns are scored by them.

SQLite's FTS5 holds the inverted index, but its own `bm25()` counts over the whole table: how often
a word occurs in other people's memories, and in turns that came later, would move the scores, and
so tell about them. Here every term carries its memory in front (`m12_pari`), postings are read by
exact term, and the statistics are those of one view: what it can see, and nothing else.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections.abc import Mapping

import Stemmer

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


def tagged(memory: int, term: str) -> str:
    """Return a term as the index knows it: with its memory in front."""
    return f"m{memory}_{term}"


def body(memory: int, found: list[str]) -> str:
    """Return what the index is given for a turn of `memory` with these terms."""
    return " ".join(tagged(memory, term) for term in found)


def bm25(
    query: Mapping[str, int],
    postings: Mapping[str, Mapping[int, int]],
    lengths: Mapping[int, int],
    *,
    turns: int,
    words: int,
) -> dict[int, float]:
    """Return the BM25 of every turn that has a posting, by seq (Lucene's form of it).

    Args:
        query: How often each term occurs in the query.
        postings: For each term, how often it occurs in which turn.
        lengths: The number of terms of each turn in `postings`.
        turns: How many turns there are.
        words: How many terms they have together.

    >>> scores = bm25({"cat": 1}, {"cat": {7: 2}}, {7: 4}, turns=2, words=8)
    >>> round(scores[7], 6)
    0.396084
    """
    scores: dict[int, float] = {}
    mean = words / turns if turns else 0.0
    for term, times in query.items():
        found = postings.get(term, {})
        weight = times * math.log(1 + (turns - len(found) + 0.5) / (len(found) + 0.5))
        for seq, count in found.items():
            part = count / (count + K1 * (1 - B + B * lengths[seq] / mean))
            scores[seq] = scores.get(seq, 0.0) + weight * part
    return scores
