"""Which of several turns about one thing a question wants: the newest, the oldest, or another.

"Where do I live?" asks for what holds, and so wants the newest turn about it; "Where did I live at
first?" wants the oldest, "Where did I live before Oslo?" the one before. A question about any other
time, or for all values, wants none of them more than another. The words are read by plain regular
expressions for English; a question in another language has no wish.

Turns are about the same thing if they are said by the same side, have a value of the same kind (a
number, a day, a name), and are alike: their embeddings are nearer to that of the best turn than those
of other candidates, and near to the question. Only these change places, and only with each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from evomem.records import Record, Turn

Wish = Literal["newest", "oldest", "previous"]
Values = npt.NDArray[np.float64]

# Chosen on development data (docs/measurements/benchmarks.md).
BEST = 6  # turns, by score, that may change places
NEAR = 3.0  # what nearness to the question counts beside likeness to the best turn
ALIKE = 3.6  # from which sum of both on a turn is about the same thing as the best one
USUAL = 0.38, 0.10, 20  # mean and deviation of cosines between turns, and how many they count for
LONGEST = 200  # characters of a turn; a longer one tells more than one thing
WORDS = 18  # of a question; a longer one asks for more than one thing

_OWN = re.compile(r"\b(?:I|I'm|me|my|mine|we|our|us)\b")
_NAME = re.compile(
    r"(?<!^)(?<![.!?] )\b(?!(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?"
    r"|January|February|March|April|May|June|July|August|September|October|November|December)\b)"
    r"[A-Z]\w+"
)
_QUESTION = re.compile(
    r"(?:^|[.!,;:]\s+)\W*(?:do|does|is|are|am|tell me|remind me)\b"
    r"|\b(?:what|what's|which|where|where's|who|who's|whom|whose|when|when's|how)\b",
    re.IGNORECASE,
)
_WHETHER_EVER = re.compile(r"^\W*(?:have|has)\b", re.IGNORECASE)
_ADVICE = re.compile(
    r"\bhow (?:do|does) (?:I|we|you)\b|\b(?:should|could|would|can|will|might|may|recommend|suggest)\b",
    re.IGNORECASE,
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
    own = _OWN.search(query) or not _NAME.search(query)
    if not own or len(query.split()) > WORDS or _WHETHER_EVER.search(query):
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


_DAY_NAME = (
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b"
    r"|(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_BEGINNINGS = (
    "The|A|An|My|Our|I|It|In|On|At|We|You|He|She|They|This|That|These|Those|There|Here|With|As|For"
    "|From|To|Of|By|And|But|Or|If|When|After|Before|Since|Today|Yesterday|Tomorrow|Now|Every|Each"
    "|Some|Somebody|Someone|Everybody|Nobody|People|Please|Thanks|Yes|No|Not|So|Then|Being|Take|Come"
    "|Call|Write|What|Which|Where|Who|How|Why|Is|Are|Am|Do|Does|Did|Have|Has|Had|Can|Could|Will|Would"
    "|Should|Let"
)
_KINDS = {
    "number": re.compile(
        r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred"
        r"|thousand)\b",
        re.IGNORECASE,
    ),
    "day": re.compile(rf"\b(?:{_DAY_NAME})"),
    # A capital inside of a sentence or of a word, or at its beginning, if it is no usual beginning.
    "name": re.compile(
        rf"(?<=[a-z0-9,;’'] )(?!I\b|{_DAY_NAME})[A-Z]\w+|\b[A-Z][a-z]+[A-Z]\w+"
        rf"|(?:^|[.!?] )(?!(?:{_BEGINNINGS}|{_DAY_NAME})\b)[A-Z][a-z]+\b"
    ),
}
_ASKED = {
    re.compile(r"\bhow (?:much|many|far|big|long|old|tall|high)\b|\bwhat time\b", re.I): {"number"},
    re.compile(
        r"\bwhen\b|\b(?:which|what) (?:\w+ )?(?:day|date|weekday|morning|afternoon|evening|night)s?\b",
        re.I,
    ): {"number", "day"},
    re.compile(r"\b(?:who|whom|whose|where)\b", re.I): {"name"},
}
_QUOTED = re.compile(r"[“\"][^”\"]*[”\"]")
_SOMEBODY_ELSE = re.compile(
    r"^(?:my|our|an?|the|one of my) (?:\w+ )?(?:sister|brother|mother|mom|mum|father|dad|wife|husband"
    r"|partner|girlfriend|boyfriend|son|daughter|cousin|niece|nephew|aunt|uncle|grand\w+|friend"
    r"|colleague|neighbou?r|boss|flatmate|roommate|teammate|co-?worker)s?\b"
    r"(?!.*\b(?:I|me|my|our|us)\b)",
    re.IGNORECASE,
)


def standing_out(alike: Values) -> Values:
    """Return cosines with the best turn as standard deviations above the mean of all candidates.

    A few candidates have no mean worth the name: `USUAL` ones are counted with them.
    """
    mean, deviation, count = USUAL
    whole = len(alike) + count
    centre = (alike.sum() + count * mean) / whole
    square = ((alike - centre) ** 2).sum() + count * (deviation**2 + (mean - centre) ** 2)
    result: Values = (alike - centre) / np.sqrt(square / whole)
    return result


def same_thing(query: str, turns: Sequence[Turn], near: Values, alike: Values) -> list[int]:
    """Return which of the best turns are about the same thing as the first of them.

    Args:
        query: The question.
        turns: The best turns, best first.
        near: Of each, the cosine with the question, as a share of the best.
        alike: Of each, how far its likeness to the first stands out (`standing_out`).
    """
    texts = [turn.user or turn.assistant for turn in turns]
    kinds = [{name for name, test in _KINDS.items() if test.search(text)} for text in texts]
    wanted = kinds[0]
    for test, asked in _ASKED.items():
        if test.search(query):
            wanted = asked & kinds[0] if asked == {"name"} else asked
            break
    side = bool(turns[0].user), turns[0].speaker
    return [
        place
        for place, turn in enumerate(turns)
        if max(len(texts[0]), len(texts[place])) <= LONGEST
        and (bool(turn.user), turn.speaker) == side
        and not _SOMEBODY_ELSE.search(_QUOTED.sub("", texts[place]))
        and (not place or not wanted or wanted & kinds[place])
        and (not place or alike[place] + NEAR * near[place] > ALIKE)
    ]


def wished_order(wish: Wish, query: str, records: Sequence[Record], words: Values) -> list[int]:
    """Return the places of records about the same thing, in the wished order.

    Args:
        wish: Which of them is wanted first.
        query: The question.
        records: Turns about the same thing.
        words: BM25 of each: if the question says before what, the turn that has most of its words
            is taken to tell that.
    """
    order = sorted(
        range(len(records)),
        key=lambda place: (records[place].time, records[place].seq),
        reverse=wish != "oldest",
    )
    if wish == "previous" and order:
        named = bool(_NAMED.search(query))
        bound = max(range(len(order)), key=lambda n: words[order[n]]) if named else 0
        order = order[bound + 1 :] + order[: bound + 1]
    return order
