"""Matches the exchanges of a conversation with those that a memory already holds of it.

Pure functions: `told` is the memory's part of the conversation, `new` is another export of it, perhaps
only of its newest messages. Both are in order. `match` pairs equal exchanges, and exchanges with the
same question in the same place whose answers were added, regenerated, or edited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial

from evomem.pairing import joined
from evomem.records import Turn
from evomem.tombstones import LONG_ID

MAX_DIFF_STEPS = 5_000_000  # of `difflib`, whose time grows with repetitions in both sequences


Label = tuple[str, str, "str | None"]


@dataclass(eq=False, slots=True)
class ChatExchange:
    """An exchange, in a memory or in an export."""

    turn: Turn
    ids: frozenset[str] = frozenset()
    """The ids of its messages, or of the stored turn."""
    timed: bool = False
    """Whether the time comes from the source, rather than the time of storing."""

    @property
    def label(self) -> Label:
        """Both sides and the speaker."""
        return self.turn.user, self.turn.assistant, self.turn.speaker


def match(told: Sequence[ChatExchange], new: Sequence[ChatExchange]) -> list[int | None]:
    """Return, for each exchange of `new`, the place in `told` of the same exchange.

    Places ascend. Exchanges that share a message id are the same, regardless of their texts. Otherwise
    texts decide and, if both have them, times.
    """
    best: list[int | None] = [None] * len(new)
    if not told or not new:
        return best
    for with_times in (True, False):
        olds, news = _labels(told, new, with_times)
        pairs = _align(olds, news, partial(_same_question, told, new, with_times))
        matched = [(told[i], new[j]) for j, i in enumerate(pairs) if i is not None]
        # a single text that was said at two times does not identify a conversation; several do
        if len(matched) > 1 or (matched and (with_times or _same_time(*matched[0]))):
            return pairs
    return best


def is_earlier(new: Turn, told: Turn) -> bool:
    """Return whether `new` is `told` with only the beginning of the answer."""
    same = new.user == told.user and new.speaker == told.speaker
    return same and bool(new.user) and _starts_with(told.assistant, new.assistant)


def is_part(told: Turn, new: Turn) -> bool:
    """Return whether the messages of `told` are part of those of `new`."""
    return (
        told.speaker == new.speaker
        and told.content != new.content
        and _contains_lines(told.user, new.user)
        and _contains_lines(told.assistant, new.assistant)
    )


@dataclass
class StoredExchange:
    """A stored exchange as lines."""

    place: int
    """The index in `told`."""
    user: list[str]
    answer: list[str]
    after: str | None
    """The user's text in the next exchange; None for the last."""


def completed(
    told: Sequence[ChatExchange], new: Sequence[ChatExchange]
) -> tuple[int, StoredExchange] | None:
    """Complete the beginning of an export that starts in the middle of an exchange.

    An export of the newest messages may start with the rest of an answer, or with the second of two
    messages that a user sent in a row.

    Returns:
        How many exchanges of `new` are the rest of a stored exchange, and this exchange completed
        from `new`; None if `new` begins with a complete exchange.
    """
    heads = 0
    while heads < len(new) and not new[heads].turn.user and not new[heads].turn.speaker:
        heads += 1
    labels = {entry.label for entry in told}
    if not new or new[0].turn.speaker or (heads < 2 and new[0].label in labels):
        return None
    parts = [entry.turn for entry in new[: max(heads, 1)]]
    after = new[len(parts)].turn.user if len(new) > len(parts) else None
    user = _lines(parts[0].user)
    answer = _lines(joined([turn.assistant for turn in parts]))
    exchanges = list(_stored_exchanges(told))
    for least in (2, 1, 0):  # first exchanges that are followed by the same question
        for exchange in exchanges:
            if _follow_agreement(exchange.after, after) < least:
                continue
            full = _complete(exchange, user, answer, ends=after is None)
            if full:
                return len(parts), full
    last = exchanges[0] if exchanges else None
    if last and not user and not last.answer and labels.isdisjoint(e.label for e in new[heads:]):
        return len(parts), replace(last, answer=answer)  # the answer to an unanswered question
    return None


def _complete(
    whole: StoredExchange, user: list[str], answer: list[str], *, ends: bool
) -> StoredExchange | None:
    """Return an exchange completed with a possible rest of it; None if it is not the rest."""
    if not user:
        start = _start_of_rest(whole, answer, ends=ends)
        return None if start is None else replace(whole, answer=whole.answer[:start] + answer)
    if not answer or not _agree(whole.answer, answer, last=whole.after is None):
        return None
    start = _overlapping(whole.user, user, may_grow=not whole.answer)
    return replace(whole, user=whole.user[:start] + user, answer=answer) if start else None


def _follow_agreement(told: str | None, new: str | None) -> int:
    """Return 2 if the next questions agree, 1 if one of them is missing, else 0."""
    if told is None or new is None:
        return 1
    same = told == new or told.startswith(f"{new}\n") or new.startswith(f"{told}\n")
    return 2 if same else 0


def _stored_exchanges(told: Sequence[ChatExchange]) -> Iterator[StoredExchange]:
    """Yield stored exchanges, newest first; unanswered messages at the end are one exchange."""
    after: str | None = None
    waiting: list[str] = []
    for place in range(len(told) - 1, -1, -1):
        turn = told[place].turn
        if after is None and not turn.assistant and not turn.speaker:
            waiting.insert(0, turn.user)
            continue
        if waiting:
            yield StoredExchange(place + 1, _lines(joined(waiting)), [], None)
            after, waiting = waiting[0], []
        if turn.user and not turn.speaker:
            yield StoredExchange(place, _lines(turn.user), _lines(turn.assistant), after)
        after = turn.user
    if waiting:
        yield StoredExchange(0, _lines(joined(waiting)), [], None)


def _overlapping(whole: Sequence[str], part: Sequence[str], *, may_grow: bool) -> int:
    """Return where in `whole` an end begins that equals `part`, or its beginning; 0 if none."""
    for start in range(max(1, len(whole) - len(part)), len(whole)):
        end = whole[start:]
        if end == part or (may_grow and end == part[: len(end)]):
            return start
    return 0


def _agree(told: Sequence[str], new: Sequence[str], *, last: bool) -> bool:
    return last or told == new or told[: len(new)] == new or new[: len(told)] == told


def _start_of_rest(whole: StoredExchange, answer: Sequence[str], *, ends: bool) -> int | None:
    """Return where in the answer of `whole` another export's `answer` begins; None if nowhere."""
    last = whole.after is None
    for start in range(len(whole.answer)):
        end = whole.answer[start:]
        if end == answer or (last and end == answer[: len(end)]):
            return start
        if ends and end[: len(answer)] == answer:  # an earlier export
            return start
        if last and len(end) > 1 and end[0] == answer[0]:  # regenerated after a preamble
            return start
    return None


def _lines(text: str) -> list[str]:
    return text.split("\n") if text else []


def _starts_with(whole: str, part: str) -> bool:
    if not whole.startswith(part):
        return False
    return len(part) in (0, len(whole)) or whole[len(part)].isspace() or part[-1].isspace()


def _contains_lines(part: str, whole: str) -> bool:
    return not part or f"\n{part}\n" in f"\n{whole}\n"


# ---------------------------------------------------------------------------------------------


def _labels(
    told: Sequence[ChatExchange], new: Sequence[ChatExchange], with_times: bool
) -> tuple[list[Hashable], list[Hashable]]:
    """Return a label for each exchange; equal labels mean the same exchange."""
    known = _by_id(told, new)
    shared = set(known) - {None}
    # without a shared id, exports may generate their own ids
    missing = {
        place
        for place, entry in enumerate(told)
        if shared and entry.ids and not any(map(_made_up, entry.ids))
    }

    def label(entry: ChatExchange) -> Hashable:
        return (*entry.label, entry.turn.time if with_times and entry.timed else None)

    olds: list[Hashable] = [
        ("id", place) if place in shared or place in missing else label(entry)
        for place, entry in enumerate(told)
    ]
    news: list[Hashable] = [
        label(entry) if place is None else ("id", place)
        for entry, place in zip(new, known, strict=True)
    ]
    return olds, news


def _by_id(told: Sequence[ChatExchange], new: Sequence[ChatExchange]) -> list[int | None]:
    """Return, for each exchange of `new`, the place in `told` of an exchange with the same message id.

    Short ids may be counters that restart in every export: they count only if most exchanges that
    share one have the same question.
    """
    places = {id: place for place, entry in enumerate(told) for id in entry.ids}
    known = [next((places[id] for id in entry.ids if id in places), None) for entry in new]
    pairs = [(told[i], entry) for i, entry in zip(known, new, strict=True) if i is not None]
    agree = sum(old.turn.user == entry.turn.user for old, entry in pairs)
    short = any(len(id) < LONG_ID for old, entry in pairs for id in old.ids & entry.ids)
    if short and 2 * agree < len(pairs):
        return [None] * len(new)
    second = known[1] if len(new) > 1 else None
    if known[0] is None and second and told[second - 1].label == new[0].label:
        known[0] = second - 1  # the message that gave it its id is missing in the export
    return known


def _made_up(id: str) -> bool:
    """Return whether an id may be a digest that an import generated."""
    return len(id) == 32 and all(char in "0123456789abcdef" for char in id)


def _same_time(told: ChatExchange, new: ChatExchange) -> bool:
    return not (told.timed and new.timed) or told.turn.time == new.turn.time


def _same_question(
    told: Sequence[ChatExchange], new: Sequence[ChatExchange], with_times: bool, i: int, j: int
) -> bool:
    """Return whether two exchanges have the same question, regardless of the answers.

    The user's text at the end of `told` may continue in `new`.
    """
    old, other = told[i].turn, new[j].turn
    if not (old.user and other.user) or old.speaker != other.speaker:
        return False
    if old.user == other.user:
        return not with_times or _same_time(told[i], new[j])
    if i < len(told) - 1 or old.assistant:
        return False
    before, after = _lines(old.user), _lines(other.user)
    if other.assistant:
        return after[: len(before)] == before
    shared = range(1, min(len(before), len(after)) + 1)
    return before[: len(after)] == after or any(before[-n:] == after[:n] for n in shared)


def _align(
    old: Sequence[Hashable], new: Sequence[Hashable], alike: Callable[[int, int], bool]
) -> list[int | None]:
    """Pair places of `new` with places of `old`.

    From the beginning of the overlap on, both advance together while labels are equal or places are
    `alike`. Where they diverge, they continue at the next common stretch.
    """
    pairs: list[int | None] = [None] * len(new)
    i, j = _overlap(old, new, alike), 0
    blocks: Iterator[tuple[int, int]] | None = None
    while i < len(old) and j < len(new):
        if old[i] == new[j] or alike(i, j):
            pairs[j] = i
            i, j = i + 1, j + 1
            continue
        if blocks is None:
            blocks = iter([(i + a, j + b) for a, b in _common_places(old[i:], new[j:])])
        onward = next(((a, b) for a, b in blocks if a >= i and b >= j), None)
        if onward is None:
            break
        i, j = onward
    return pairs


def _overlap(
    old: Sequence[Hashable], new: Sequence[Hashable], alike: Callable[[int, int], bool]
) -> int:
    """Return the place in `old` where `new` begins: that with the longest agreement."""
    borders = _borders(new)
    starts = [0]
    inside = _ends_with(old, new, borders)
    starts += [place for place in inside.starts[:1]]
    starts += [len(old) - inside.length] if inside.length else []
    length = _ends_with(old[:-1], new, borders).length  # the last exchange may have changed
    while True:
        if length < len(new) and alike(len(old) - 1, length):
            starts.append(len(old) - 1 - length)
            break
        if not length:
            break
        length = borders[length - 1]

    def agreement(start: int) -> float:
        equal = 0
        limit = min(len(old) - start, len(new))
        while equal < limit and old[start + equal] == new[equal]:
            equal += 1
        return equal + (0.5 if equal < limit and alike(start + equal, equal) else 0)

    return max(starts, key=lambda start: (agreement(start), start))


@dataclass
class _Ends:
    length: int
    """The length of the longest beginning of `new` that `old` ends with."""
    starts: list[int]
    """The places in `old` where all of `new` occurs."""


def _borders(new: Sequence[Hashable]) -> list[int]:
    """Return, for each beginning of `new`, the length of its longest border (Knuth-Morris-Pratt)."""
    borders = [0] * len(new)
    length = 0
    for place in range(1, len(new)):
        while length and new[place] != new[length]:
            length = borders[length - 1]
        length += new[place] == new[length]
        borders[place] = length
    return borders


def _ends_with(old: Sequence[Hashable], new: Sequence[Hashable], borders: list[int]) -> _Ends:
    length, starts = 0, []
    for place, label in enumerate(old):
        while length and (length == len(new) or label != new[length]):
            length = borders[length - 1]
        length += label == new[length]
        if length == len(new):
            starts.append(place - length + 1)
    return _Ends(length, starts)


def _common_places(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return pairs of places with equal labels, ascending."""
    counts = Counter(new)
    if sum(counts[label] for label in old) > MAX_DIFF_STEPS:
        return []
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]
