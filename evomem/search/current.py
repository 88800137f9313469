"""Which of several turns about the same thing a question asks for: the newest or another.

"Where do I live?" asks for the current value, and so for the newest turn about it; "Where did I
live at first?" asks for the oldest, "Where did I live before Oslo?" for the one before. A question
about any other time, or for all values, prefers none of them. The words are matched by regular
expressions for English; a question in another language has no wish.

A learned model (`evomem.search.stating`) tells which of the best turns state what is asked for. Of
these, the wanted one is put first; no other turn moves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np

from evomem.records import Record, Turn
from evomem.search.stating import DAY_NAME, KINDS, Values

Wish = Literal["newest", "oldest", "previous"]

BEST = 32  # turns, by score, that are looked at
LIFT = 0.01  # how much higher than the best one the wanted turn is put
BAR = 0.5  # how likely a turn has to state what is asked for
LONGEST = 200  # characters of a turn; a longer one tells more than one thing
WORDS = 18  # of a question; a longer one asks for more than one thing

_OWN = re.compile(r"\b(?:I|I'm|me|my|mine|we|our|us)\b")
_NAME = re.compile(rf"(?<!^)(?<![.!?] )\b(?!{DAY_NAME})[A-Z]\w+")
_QUESTION = re.compile(
    r"(?:^|[.!,;:]\s+)\W*(?:do|does|is|are|am|tell me|remind me)\b"
    r"|\b(?:what|what's|which|where|where's|who|who's|whom|whose|when|when's|how)\b",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\b(?:they|them|their|theirs|more|(?:the|who \w+) most(?! recent))\b", re.IGNORECASE
)
_WHETHER_EVER = re.compile(r"^\W*(?:have|has)\b", re.IGNORECASE)
_ADVICE = re.compile(
    r"\bhow (?:do|does) (?:I|we|you)\b|\b(?:should|could|would|can|will|might|may|recommend|suggest)\b",
    re.IGNORECASE,
)
_NOW = re.compile(
    r"\b(?:now|nowadays|today|currently|at present|presently|at the moment|these days|up to date"
    r"|as of (?:now|today)|current|latest|newest|most recent(?:ly)?|last known|still|any ?more"
    r"|the last (?:[\w'’-]+ ){1,4}(?:I|you) (?:gave|told|mentioned|said|set))\b",
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
    r"\b(?:before|prior to|ahead of) (?!(?:that|this|then|now)\b)(?:it (?:was|became) )?(\w.*)",
    re.IGNORECASE,
)
_THE = re.compile(r"^\W*(?:is|are|does|do|will) (?:the|this|that)\b", re.IGNORECASE)
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
    """Return which of several turns about the same thing a question asks for, None for any.

    Args:
        query: The question.
        dated: Whether it names a day or a span of time: then it asks for what was said then,
            whatever has changed since.

    >>> wish_of("What is my dose?"), wish_of("Which car did I drive at first?")
    ('newest', 'oldest')
    >>> wish_of("Where did I live before Oslo?")
    'previous'
    >>> wish_of("Where did we go on holiday?")
    """
    own = _OWN.search(query) or not _NAME.search(query) or _THE.search(query)
    if (
        not own
        or _OTHERS.search(query)
        or len(query.split()) > WORDS
        or _WHETHER_EVER.search(query)
    ):
        return None
    past, other = bool(_PAST.search(query)), bool(_ANOTHER_TIME.search(query))
    if past and _FIRST.search(query) and not other:
        return "oldest"
    if _FORMER.search(query) or (past and _BEFORE.search(query)):
        return None if other else "previous"
    if _NOW.search(query):
        return None if past and other else "newest"
    if _THE.search(query):
        return None if dated or past or other else "newest"
    if dated or past or other or _ADVICE.search(query) or not _QUESTION.search(query):
        return None
    return "newest"


_AGAIN = re.compile(r"\b(?:back|again)\b", re.IGNORECASE)


def text_of(turn: Turn) -> str:
    """Return what a turn says, without a reply."""
    return turn.user or turn.assistant


def tells_one(turn: Turn) -> bool:
    """Return whether a turn says one thing, and asks nothing."""
    text = text_of(turn)
    return len(text) <= LONGEST and not text.rstrip().endswith("?")


def stating(turns: Sequence[Turn], likely: Values) -> list[int]:
    """Return which turns state what is asked for: the likely ones of the side that most likely does.

    Args:
        turns: The best turns.
        likely: How likely each states it (`evomem.search.stating`).
    """
    sides = [(bool(turn.user), turn.speaker) for turn in turns]
    side = sides[int(np.argmax(likely))]
    return [n for n in np.flatnonzero(likely > BAR).tolist() if sides[n] == side]


def _values(text: str) -> set[str]:
    """Return the numbers, days and names of a text."""
    values = set(re.findall(r"\d[\d.,:]*\d|\d", text))
    return values | {
        match[0].strip(" .!?").lower() for test in KINDS.values() for match in test.finditer(text)
    }


def wished(wish: Wish, query: str, records: Sequence[Record], same: Sequence[int]) -> int | None:
    """Return the index of the wanted record; None for none.

    A turn that repeats an earlier value is not a change.

    Args:
        wish: Which of those about the same thing the question asks for.
        query: The question.
        records: The best turns.
        same: The indices of those about the same thing.
    """
    order = sorted(same, key=lambda place: _moment(records[place]))
    if wish == "oldest":
        return order[0] if order else None
    asked, told = _values(query), set[str]()
    changes = []
    for place in order:
        text = text_of(records[place].turn)
        values = _values(text) - asked
        if not values or values - told or _AGAIN.search(text):
            changes.append(place)
        told |= values
    if wish == "newest":
        return changes[-1] if changes else None
    bound = _bound(query, records, changes)
    earlier = [place for place in changes if bound and _moment(records[place]) < bound]
    return earlier[-1] if earlier else None


def _moment(record: Record) -> tuple[datetime, int]:
    return record.time, record.seq


def _bound(
    query: str, records: Sequence[Record], changes: Sequence[int]
) -> tuple[datetime, int] | None:
    """Return the time of the value that the question names ("before Oslo"), or of the newest."""
    named = _NAMED.search(query)
    if named:
        words = _words(named[1])
        shares = [
            len(words & _words(text_of(record.turn))) if tells_one(record.turn) else 0
            for record in records
        ]
        best = max(shares)
        among = [n for n in changes if shares[n] == best] or [
            n for n, share in enumerate(shares) if share == best
        ]
        if best:
            return _moment(records[among[0]])
    return _moment(records[changes[-1]]) if changes else None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
