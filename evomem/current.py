"""Which of several turns about one thing a question wants: the newest, the oldest, or another.

"Where do I live?" asks for what holds, and so wants the newest turn about it; "Where did I live at
first?" wants the oldest, "Where did I live before Oslo?" the one before. A question about any other
time, or for all values, wants none of them more than another. The words are read by plain regular
expressions for English; a question in another language has no wish.

What is about the same thing: turns whose embeddings are much more alike than others' to that of the
best turn, and near to the question. Only these change places, and only with each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Wish = Literal["newest", "oldest", "previous"]
Values = npt.NDArray[np.float64]

NEAR = 3.0  # what nearness to the question counts beside likeness to the best turn
ALIKE = 3.5  # from which sum of both on a turn is about the same thing as the best one

LONGEST = 18  # words of a question; a longer one asks for more than one thing

_OWN = re.compile(r"\b(?:I|I'm|me|my|mine|we|our|us)\b")
_NAME = re.compile(
    r"(?<!^)(?<![.!?] )\b(?!(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?"
    r"|January|February|March|April|May|June|July|August|September|October|November|December)\b)"
    r"[A-Z]\w+"
)
_QUESTION = re.compile(
    r"(?:^|[.!,;:]\s+)\W*(?:do|does|is|are|am|has|have|tell me|remind me)\b"
    r"|\b(?:what|what's|which|where|where's|who|who's|whom|whose|when|when's|how)\b",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(?:should|could|would|can|will|might|may|recommend|suggest)\b", re.IGNORECASE
)
_NOW = re.compile(
    r"\b(?:now|nowadays|today|currently|at present|presently|at the moment|these days|up to date"
    r"|as of (?:now|today)|current|latest|newest|most recent(?:ly)?|last known|still|any ?more"
    r"|the last (?:\w+ ){1,4}(?:I|you) (?:gave|told|mentioned|said|set))\b",
    re.IGNORECASE,
)
_FIRST = re.compile(
    r"\b(?:first|original(?:ly)?|initial(?:ly)?|earliest|in the early days|start(?:ed)?(?: off)? with"
    r"|in the beginning|at the (?:very )?(?:beginning|start|outset)|to begin with)\b",
    re.IGNORECASE,
)
_FORMER = re.compile(r"\bmy (?:previous|former|prior|last but one)\b", re.IGNORECASE)
_BEFORE = re.compile(
    r"\b(?:before(?! (?:I|we|you|he|she|they|the time)\b)|prior to|ahead of|previously|formerly)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"\b(?:before|prior to|ahead of) (?!(?:that|this|then|now|it)\b)(?:it (?:was|became) )?\w",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:did|was|were|had|used to|went|came|got|became)\b"
    r"|\bhave (?:I|we|they|you) (?:ever|had|been|gone)\b",
    re.IGNORECASE,
)
_ANOTHER_TIME = re.compile(
    r"\b(?:earlier|(?<!look )(?<!looks )after|ago|once|ever|since|until|till|back then|in the past"
    r"|old(?:er|est)?|yesterday|how often|how many times|history|list|all|chang(?:e|es|ed)|between"
    r"|last (?:night|week|month|year|time|spring|summer|autumn|fall|winter)|over time|so far|in (?:what )?order"
    r"|(?:every|each)(?! (?:day|morning|evening|night|week|month|year)\b))\b",
    re.IGNORECASE,
)


def wish_of(query: str, *, dated: bool = False) -> Wish | None:
    """Return which turn a question wants of several about one thing, None for any.

    Args:
        query: The question.
        dated: Whether it names a day or a span of time: what was said then is wanted, whatever
            has changed since.

    >>> wish_of("What is my dose?"), wish_of("Which car did I drive at first?")
    ('newest', 'oldest')
    >>> wish_of("Where did I live before Oslo?")
    'previous'
    >>> wish_of("Where did we go on holiday?")
    """
    if len(query.split()) > LONGEST or not (_OWN.search(query) or not _NAME.search(query)):
        return None
    past, other = bool(_PAST.search(query)), bool(_ANOTHER_TIME.search(query))
    if past and _FIRST.search(query) and not other:
        return "oldest"
    if _FORMER.search(query) or (past and _BEFORE.search(query)):
        return None if other else "previous"
    if _NOW.search(query):
        return None if past and other else "newest"
    if dated or past or other or _ADVICE.search(query) or not _QUESTION.search(query):
        return None
    return "newest"


def same_thing(near: Values, alike: Values) -> npt.NDArray[np.bool_]:
    """Return which candidates are about the same thing as the best one.

    Args:
        near: (n,) each candidate's cosine with the question, as a share of the best.
        alike: (n,) its cosine with the best candidate.
    """
    spread = float(alike.std()) or 1.0
    same: npt.NDArray[np.bool_] = (alike - alike.mean()) / spread + NEAR * near > ALIKE
    return same


def moves(
    wish: Wish, query: str, scores: Values, words: Values, when: Sequence[Any], same: Any
) -> Values:
    """Return what is added to each score, so that turns about the same thing stand in wished order.

    They share out their own scores anew; the scores of all others stay, and with them their places.

    Args:
        wish: Which of them is wanted first.
        query: The question.
        scores: (n,) of the candidates.
        words: (n,) BM25, as a share of the best: of a question for what came before something, the
            turn that has most of its words is taken to tell that.
        when: n values that say in which order the turns were said, by `<`.
        same: (n,) which of them are about the same thing.
    """
    added = np.zeros(len(scores))
    places = np.flatnonzero(same).tolist()
    wished = sorted(places, key=lambda place: when[place], reverse=wish != "oldest")
    if wish == "previous" and wished:
        named = bool(_NAMED.search(query))
        bound = max(range(len(wished)), key=lambda n: words[wished[n]]) if named else 0
        wished = wished[bound + 1 :] + wished[: bound + 1]
    best = sorted((scores[place] for place in places), reverse=True)
    for place, score in zip(wished, best, strict=True):
        added[place] = score - scores[place]
    return added
