"""Which of several turns about the same thing a question asks for: the newest or another.

"Where do I live?" asks for the current value, and so for the newest turn about it; "Where did I
live at first?" asks for the oldest, "Where did I live before Oslo?" for the one before. A question
about any other time, or for all values, prefers none of them. The words are matched by regular
expressions for English; a question in another language has no wish (`wish_of` returns None).

One of the best turns (`telling`) shows what the question is about: it is close to the question, has
a value, and is not a past event. Others are about the same thing (`same_thing`) if they are
from the same side, similar, close to the question, and have a value of the same kind (a number, a
day, a name) and unit. Of these, the wanted turn is put first; no other turn moves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from evomem.patterns import lazy
from evomem.records import Record, Turn

Wish = Literal["newest", "oldest", "previous"]
Values = npt.NDArray[np.float64]

# Chosen on development data (docs/measurements/benchmarks.md): a linear model's weights, rounded.
BEST = 32  # number of best turns that are compared
LIFT = 0.01  # how much higher than the best one the wanted turn is put
# Weights of a turn's other features in the sum that says how likely it is about the same thing.
NEAR, SHARED, KIND, UNIT, OVER = 3.1, 0.9, 1.7, 1.5, -1.3
ALIKE = 6.2  # threshold of that sum
ALIKE_CHANGED = 5.6  # threshold if the question implies several values: "now", "before"
TELLS_KIND, TELLS_OVER, TELLS_RANK = 0.3, -0.5, -0.33  # weights of features in `telling`
# Least share of the cosine of the nearest turn that is not a question; farther turns are ignored.
TELLS_NEAR = 0.5
USUAL = 0.38, 0.10, 20  # prior of cosines between turns: mean, deviation, and its weight in turns
LONGEST = 200  # characters of a turn; longer turns say more than one thing
WORDS = 18  # words of a question; longer questions ask for more than one thing

_OWN = lazy(r"\b(?:I|I'm|me|my|mine|we|our|us)\b")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAY_NAME = rf"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|{_MONTHS})\b"
_NAME = lazy(rf"(?<!^)(?<![.!?] )\b(?!{_DAY_NAME})[A-Z]\w+")
_QUESTION = lazy(
    r"(?:^|[.!,;:]\s+)\W*(?:do|does|is|are|am|tell me|remind me)\b"
    r"|\b(?:what|what's|which|where|where's|who|who's|whom|whose|when|when's|how)\b",
    re.IGNORECASE,
)
_OTHERS = lazy(
    r"\b(?:they|them|their|theirs|more|(?:the|who \w+) most(?! recent))\b", re.IGNORECASE
)
_WHETHER_EVER = lazy(r"^\W*(?:have|has)\b", re.IGNORECASE)
_ADVICE = lazy(
    r"\bhow (?:do|does) (?:I|we|you)\b|\b(?:should|could|would|can|will|might|may|recommend|suggest)\b",
    re.IGNORECASE,
)
_NOW = lazy(
    r"\b(?:now|nowadays|today|currently|at present|presently|at the moment|these days|up to date"
    r"|as of (?:now|today)|current|latest|newest|most recent(?:ly)?|last known|still|any ?more"
    r"|the last (?:[\w'’-]+ ){1,4}(?:I|you) (?:gave|told|mentioned|said|set))\b",
    re.IGNORECASE,
)
_FIRST = lazy(
    r"\b(?:first|original(?:ly)?|initial(?:ly)?|earliest|in the early days|start(?:ed)?(?: off)? with"
    r"|in the beginning|at the (?:very )?(?:beginning|start|outset)|to begin with)\b",
    re.IGNORECASE,
)
_FORMER = lazy(r"\bmy (?:previous|former|prior|last but one)\b", re.IGNORECASE)
_BEFORE = lazy(
    r"\b(?:before(?! (?:I|we|you|he|she|they|the time)\b)|prior to|ahead of|previously|formerly)\b",
    re.IGNORECASE,
)
_NAMED = lazy(
    r"\b(?:before|prior to|ahead of) (?!(?:that|this|then|now)\b)(?:it (?:was|became) )?(\w.*)",
    re.IGNORECASE,
)
_THE = lazy(r"^\W*(?:is|are|does|do|will) (?:the|this|that)\b", re.IGNORECASE)
_PAST = lazy(
    r"\b(?:did|was|were|had|used to|went|came|got|became)\b"
    r"|\bhave (?:I|we|they|you) (?:ever|had|been|gone)\b",
    re.IGNORECASE,
)
_ANOTHER_TIME = lazy(
    r"\b(?:earlier|(?<!look )(?<!looks )after|ago|once|ever|since|until|till|back then|in the past"
    r"|old(?:er|est)?|yesterday|how often|how many times|history|list|all|chang(?:e|es|ed)|between"
    r"|last (?:night|week|month|year|time|spring|summer|autumn|fall|winter)|over time|so far|in (?:what )?order"
    r"|(?:every|each)(?! (?:day|morning|evening|night|week|month|year)\b))\b",
    re.IGNORECASE,
)


def wish_of(query: str, *, dated: bool = False) -> Wish | None:
    """Return which of several turns about the same thing a question asks for; None if it does not say.

    Args:
        query: The question.
        dated: Whether it names a day or a span of time: then it asks for turns of that time, whatever
            has changed since.

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


_MONTH = rf"(?:{_MONTHS}|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b"
_BEGINNINGS = (
    "The|A|An|My|Our|I|It|In|On|At|We|You|He|She|They|This|That|These|Those|There|Here|With|As|For"
    "|From|To|Of|By|And|But|Or|If|When|After|Before|Since|Today|Yesterday|Tomorrow|Now|Every|Each"
    "|Some|Somebody|Someone|Everybody|Nobody|People|Please|Thanks|Yes|No|Not|So|Then|Being|Take|Come"
    "|Call|Write|What|Which|Where|Who|How|Why|Is|Are|Am|Do|Does|Did|Have|Has|Had|Can|Could|Will|Would"
    "|Should|Let"
)
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty|fifty"
    "|hundred|thousand"
)
_KINDS = {
    "number": lazy(rf"\d|\b(?:{_NUMBER_WORDS})\b", re.IGNORECASE),
    "day": lazy(rf"\b(?:{_DAY_NAME})"),
    # A capital inside a sentence or a word, or at the beginning of a sentence unless common there.
    "name": lazy(
        rf"(?<=[a-z0-9,;’'] )(?!I\b|{_DAY_NAME})[A-Z]\w+|\b[A-Z][a-z]+[A-Z]\w+"
        rf"|(?:^|[.!?] )(?!(?:{_BEGINNINGS}|{_DAY_NAME})\b)[A-Z][a-z]+\b"
    ),
}
_ASKED = {
    lazy(r"\bhow (?:much|many|far|big|long|old|tall|high)\b|\bwhat time\b", re.I): {"number"},
    lazy(
        r"\bwhen\b|\b(?:which|what) (?:\w+ )?(?:day|date|weekday|morning|afternoon|evening|night)s?\b",
        re.I,
    ): {"number", "day"},
    lazy(r"\b(?:who|whom|whose|where)\b", re.I): {"name"},
}
_QUOTED = lazy(r"[“\"][^”\"]*[”\"]")
_SOMEBODY_ELSE = lazy(
    r"^(?:my|our|an?|the|one of my) (?:\w+ )?(?:sister|brother|mother|mom|mum|father|dad|wife|husband"
    r"|partner|girlfriend|boyfriend|son|daughter|cousin|niece|nephew|aunt|uncle|grand\w+|friend"
    r"|colleague|neighbou?r|boss|flatmate|roommate|teammate|co-?worker)s?\b"
    r"(?!.*\b(?:I|me|my|our|us)\b)",
    re.IGNORECASE,
)


def standing_out(alike: Values) -> Values:
    """Return cosines with the best turn as standard deviations above the mean of all candidates.

    The mean of a few candidates is unreliable, so `USUAL` ones are counted with them.
    """
    mean, deviation, count = USUAL
    total = len(alike) + count
    centre = (alike.sum() + count * mean) / total
    square = ((alike - centre) ** 2).sum() + count * (deviation**2 + (mean - centre) ** 2)
    result: Values = (alike - centre) / np.sqrt(square / total)
    return result


_OVER = lazy(
    r"\b(?:(?!need|feed|used|called|named|allergic)\w+ed|wrote|broke|lost|ate|saw|fell|met|went|flew"
    r"|drew|slept|ran|sang|forgot|found|said|told|had|did|was|were|made|took|gave|came|thought|felt"
    r"|kept|knew|brought|sold|spoke|heard|stood|sat|rang|rose|drove|rode|wore|threw|won|paid|sent"
    r"|held|led|read|cost)\b"
)
_CHANGES = lazy(
    r"\b(?:mov(?:e|ed|ing)|switch(?:ed)?|chang(?:e|ed)|swapp?ed|replaced|renamed|bec(?:a|o)me|settled"
    r"|enrolled|registered|joined|start(?:ed)?|beg[au]n|open(?:ed)?|promoted|re\w+ed|book(?:ed)?|chos?en?"
    r"|agreed|decided|hired|got|gotten|made (?:me|us)|bought|turned out|now|since|instead|no longer"
    r"|from now on|new|updated?|finally|extended|raised|lowered|increased|reduced|cut"
    r"|(?:gone|went|came|come|took|taken|picked|put|set|signed|gave|given|brought) (?:\w+ ){0,2}"
    r"(?:up|over|on|to|for|as|at|with|into|down|me|us)"
    r"|cancel\w*|withdr[ae]w\w*|called (?:it |them )?off|pulled out|quit|stopped|g[ai]ven? up"
    r"|fell through|after all|won't|off|left|dropped)\b",
    re.IGNORECASE,
)
_WHETHER = lazy(r"^\W*(?:do|does|is|are|am|will)\b", re.IGNORECASE)
_UNIT = lazy(
    rf"\d[\d.,:]*(?:\s*([a-z%€$£]+))?|\b([A-Z]+)-?\d|([$€£])\d|\b(?:{_NUMBER_WORDS})[ -](?!of\b|or\b|and\b)([a-z]+)",
    re.IGNORECASE,
)
_DATE = lazy(
    rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b|\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}",
    re.IGNORECASE,
)
_TITLE = lazy(r"\b(Dr|Mrs|Mr|Ms|Prof|Professor|Sir|Aunt|Uncle|Coach)\b\.?(?= [A-Z])")
_AGAIN = lazy(r"\b(?:back|again)\b", re.IGNORECASE)


def _text(turn: Turn) -> str:
    return turn.user or turn.assistant


def _kinds(text: str) -> set[str]:
    return {name for name, test in _KINDS.items() if test.search(text)}


def _units(text: str) -> set[str]:
    """Return the units of a text's numbers, and the forms of its values: "mg", "clock", "Dr"."""
    units = {match[1].lower() for match in _TITLE.finditer(text)}
    if _DATE.search(text):
        units.add("date")
    for match in _UNIT.finditer(_DATE.sub(" ", text)):
        units.add(next((part.lower() for part in match.groups() if part), "number"))
        if ":" in match[0]:
            units.add("clock")
    return units


def _values(text: str) -> set[str]:
    """Return the numbers, days and names of a text."""
    values = set(re.findall(r"\d[\d.,:]*\d|\d", text))
    return values | {
        m[0].strip(" .!?").lower() for test in _KINDS.values() for m in test.finditer(text)
    }


def _is_over(text: str) -> bool:
    """Return whether a text describes an event, and neither a state nor a change of one."""
    return bool(_OVER.search(text)) and not _CHANGES.search(text)


def _asks(turn: Turn) -> bool:
    return _text(turn).rstrip().endswith("?")


def _tells_one(turn: Turn, query: str) -> bool:
    """Return whether a turn states one thing, about the speaker or somebody whom `query` names."""
    text = _text(turn)
    if _asks(turn) or len(text) > LONGEST:
        return False
    somebody = _SOMEBODY_ELSE.search(_QUOTED.sub("", text))
    return not somebody or somebody[0].split()[-1].lower() in _words(query)


def telling(query: str, turns: Sequence[Turn], near: Values) -> int | None:
    """Return the index of the turn that most likely shows what a question is about, or None.

    If the best one says more than one thing, so may others, and the result is None.

    Args:
        query: The question.
        turns: The best turns, best first.
        near: The cosine of each with the question, as a share of the best.
    """
    if not turns or len(_text(turns[0])) > LONGEST:
        return None
    least = TELLS_NEAR * max(
        (near[place] for place, turn in enumerate(turns) if not _asks(turn)), default=0.0
    )
    scores = {
        place: near[place]
        + TELLS_KIND * bool(_kinds(_text(turn)))
        + TELLS_OVER * _is_over(_text(turn))
        + TELLS_RANK * np.log1p(place)
        for place, turn in enumerate(turns)
        if near[place] >= least and _tells_one(turn, query)
    }
    return max(scores, key=lambda place: scores[place], default=None)


def same_thing(
    query: str, turns: Sequence[Turn], subject: int, near: Values, shared: Values, alike: Values
) -> list[int]:
    """Return the indices of the turns about the same thing as a given one, including it.

    Args:
        query: The question.
        turns: The best turns.
        subject: The index of the turn that shows what the question is about (`telling`).
        near: The cosine of each with the question, as a share of the best.
        shared: BM25 of each for the question, as a share of the best.
        alike: How far the similarity of each to the subject stands out (`standing_out`).
    """
    subject_text = _text(turns[subject])
    kinds, units = _kinds(subject_text), _units(subject_text)
    for test, asked_kinds in _ASKED.items():
        if test.search(query):
            kinds = asked_kinds & kinds if asked_kinds == {"name"} else asked_kinds
            break
    is_yes_no = bool(_WHETHER.search(query))  # "Do I still …?": the turn that ends it has no value
    side = bool(turns[subject].user), turns[subject].speaker
    likeness = np.full(len(turns), -np.inf)
    for place, turn in enumerate(turns):
        text = _text(turn)
        if not _tells_one(turn, query) or (bool(turn.user), turn.speaker) != side:
            continue
        likeness[place] = (
            alike[place]
            + NEAR * near[place]
            + SHARED * shared[place]
            + KIND * (is_yes_no or not kinds or bool(kinds & _kinds(text)))
            + UNIT * (bool(units & _units(text)) if units else 0.5)
            + OVER * (_is_over(text) and not is_yes_no)
        )
    likeness[subject] = np.inf
    changed = any(test.search(query) for test in (_NOW, _FORMER, _BEFORE))
    places: list[int] = np.flatnonzero(likeness > (ALIKE_CHANGED if changed else ALIKE)).tolist()
    return places


def wished(wish: Wish, query: str, records: Sequence[Record], same: Sequence[int]) -> int | None:
    """Return the index of the wanted record; None for none.

    A turn that repeats an earlier value is not a change.

    Args:
        wish: Which turn the question asks for.
        query: The question.
        records: The best turns.
        same: The indices of those about the same thing.
    """
    order = sorted(same, key=lambda place: _moment(records[place]))
    if wish == "oldest":
        return order[0] if order else None
    query_values, known_values = _values(query), set[str]()
    changes = []
    for place in order:
        text = _text(records[place].turn)
        values = _values(text) - query_values
        if not values or values - known_values or _AGAIN.search(text):
            changes.append(place)
        known_values |= values
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
    before = _NAMED.search(query)
    if before:
        words = _words(before[1])
        shares = [
            len(words & _words(_text(record.turn))) if _tells_one(record.turn, query) else 0
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
