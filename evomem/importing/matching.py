"""Which exchanges of a conversation a memory already holds, when it is imported again.

Pure functions: `told` is what the memory holds of the conversation, `new` is another export of it,
perhaps only of its newest messages. Both are in order. `match` pairs them: equal exchanges, then
those with the same question in the same place, whose answers came later, were regenerated, or were
edited.
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

MOST_STEPS = 5_000_000  # of `difflib`, whose time grows with the repetitions in both sequences


Label = tuple[str, str, "str | None"]


@dataclass(eq=False, slots=True)
class Told:
    """An exchange, in a memory or in an export."""

    turn: Turn
    ids: frozenset[str] = frozenset()
    """Of its messages; of a stored turn, its own."""
    timed: bool = False
    """Whether the time is the source's, not that of storing."""

    @property
    def label(self) -> Label:
        """What was said."""
        return self.turn.user, self.turn.assistant, self.turn.speaker


def match(told: Sequence[Told], new: Sequence[Told]) -> list[int | None]:
    """Return, for each exchange of `new`, the place in `told` of the one that it is.

    Places ascend. Exchanges that share a message id are the same, whatever they say. Otherwise
    texts decide and, where both sides have them, times.
    """
    best: list[int | None] = [None] * len(new)
    if not told or not new:
        return best
    for with_times in (True, False):
        olds, news = _labels(told, new, with_times)
        pairs = _align(olds, news, partial(_alike, told, new, with_times))
        matched = [(told[i], new[j]) for j, i in enumerate(pairs) if i is not None]
        # one text said at two times is no sign of the same conversation; several are
        if len(matched) > 1 or (matched and (with_times or _same_time(*matched[0]))):
            return pairs
    return best


def is_earlier(new: Turn, told: Turn) -> bool:
    """Return whether `new` is `told` as it was before more of the answer came."""
    same = new.user == told.user and new.speaker == told.speaker
    return same and bool(new.user) and _begins(told.assistant, new.assistant)


def is_part(told: Turn, new: Turn) -> bool:
    """Return whether what `told` says is a part of what `new` says, message by message."""
    return (
        told.speaker == new.speaker
        and told.content != new.content
        and _within(told.user, new.user)
        and _within(told.assistant, new.assistant)
    )


@dataclass
class Whole:
    """A stored exchange, as lines."""

    place: int
    """In `told`."""
    user: list[str]
    answer: list[str]
    after: str | None
    """The user's text in the next one; None for the last."""


def completed(told: Sequence[Told], new: Sequence[Told]) -> tuple[int, Whole] | None:
    """Complete the beginning of an export that starts in the middle of an exchange.

    An export of the newest messages may start with the rest of an answer, or with the second of two
    messages that a user sent in a row.

    Returns:
        How many exchanges of `new` are the rest of one that the memory holds, and that one with
        all that `new` says; None if `new` begins with a whole exchange.
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
    wholes = list(_wholes(told))
    for least in (2, 1, 0):  # first those that are followed by the same question
        for whole in wholes:
            if _followed(whole.after, after) < least:
                continue
            full = _completed(whole, user, answer, ends=after is None)
            if full:
                return len(parts), full
    last = wholes[0] if wholes else None
    if last and not user and not last.answer and labels.isdisjoint(e.label for e in new[heads:]):
        return len(parts), replace(last, answer=answer)  # the answer to the question that had none
    return None


def _completed(whole: Whole, user: list[str], answer: list[str], *, ends: bool) -> Whole | None:
    """Return an exchange completed with what may be the rest of it."""
    if not user:
        start = _start_of_rest(whole, answer, ends=ends)
        return None if start is None else replace(whole, answer=whole.answer[:start] + answer)
    if not answer or not _agree(whole.answer, answer, last=whole.after is None):
        return None
    start = _overlapping(whole.user, user, may_grow=not whole.answer)
    return replace(whole, user=whole.user[:start] + user, answer=answer) if start else None


def _followed(told: str | None, new: str | None) -> int:
    """Return 2 if the next question is the same in both, 1 if there is none in one of them."""
    if told is None or new is None:
        return 1
    same = told == new or told.startswith(f"{new}\n") or new.startswith(f"{told}\n")
    return 2 if same else 0


def _wholes(told: Sequence[Told]) -> Iterator[Whole]:
    """Yield stored exchanges, newest first; unanswered messages at the end are one exchange."""
    after: str | None = None
    waiting: list[str] = []
    for place in range(len(told) - 1, -1, -1):
        turn = told[place].turn
        if after is None and not turn.assistant and not turn.speaker:
            waiting.insert(0, turn.user)
            continue
        if waiting:
            yield Whole(place + 1, _lines(joined(waiting)), [], None)
            after, waiting = waiting[0], []
        if turn.user and not turn.speaker:
            yield Whole(place, _lines(turn.user), _lines(turn.assistant), after)
        after = turn.user
    if waiting:
        yield Whole(0, _lines(joined(waiting)), [], None)


def _overlapping(whole: Sequence[str], part: Sequence[str], *, may_grow: bool) -> int:
    """Return where in `whole` a proper end of it begins that `part` is, or begins with; 0 if none."""
    for start in range(max(1, len(whole) - len(part)), len(whole)):
        end = whole[start:]
        if end == part or (may_grow and end == part[: len(end)]):
            return start
    return 0


def _agree(told: Sequence[str], new: Sequence[str], *, last: bool) -> bool:
    return last or told == new or told[: len(new)] == new or new[: len(told)] == told


def _start_of_rest(whole: Whole, answer: Sequence[str], *, ends: bool) -> int | None:
    """Return where in the answer of `whole` another export continues with `answer`."""
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


def _begins(whole: str, part: str) -> bool:
    if not whole.startswith(part):
        return False
    return len(part) in (0, len(whole)) or whole[len(part)].isspace() or part[-1].isspace()


def _within(part: str, whole: str) -> bool:
    return not part or f"\n{part}\n" in f"\n{whole}\n"


# ---------------------------------------------------------------------------------------------


def _labels(
    told: Sequence[Told], new: Sequence[Told], with_times: bool
) -> tuple[list[Hashable], list[Hashable]]:
    """Return a label for each exchange; equal labels mean the same exchange."""
    known = _by_id(told, new)
    shared = set(known) - {None}
    # without a shared id, every export may make ids of its own
    gone = {
        place
        for place, entry in enumerate(told)
        if shared and entry.ids and not any(map(_made_up, entry.ids))
    }

    def label(entry: Told) -> Hashable:
        return (*entry.label, entry.turn.time if with_times and entry.timed else None)

    olds: list[Hashable] = [
        ("id", place) if place in shared or place in gone else label(entry)
        for place, entry in enumerate(told)
    ]
    news: list[Hashable] = [
        label(entry) if place is None else ("id", place)
        for entry, place in zip(new, known, strict=True)
    ]
    return olds, news


def _by_id(told: Sequence[Told], new: Sequence[Told]) -> list[int | None]:
    """Return, for each exchange of `new`, the place in `told` of one that shares a message id.

    Short ids may be counters that restart in every export: they count if most of the exchanges
    that share one ask the same.
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
        known[0] = second - 1  # whose first message, which gave it its id, is not in the export
    return known


def _made_up(id: str) -> bool:
    """Return whether an id may be a digest that an import made for want of another."""
    return len(id) == 32 and all(char in "0123456789abcdef" for char in id)


def _same_time(told: Told, new: Told) -> bool:
    return not (told.timed and new.timed) or told.turn.time == new.turn.time


def _alike(told: Sequence[Told], new: Sequence[Told], with_times: bool, i: int, j: int) -> bool:
    """Return whether two exchanges ask the same, whatever the answers are.

    What the user says at the end of `told` may continue in `new`.
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

    From where the overlap begins on, both are walked in step while labels are equal or places are
    `alike`. Where they part, the next stretch that both have is looked for.
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
            blocks = iter([(i + a, j + b) for a, b in _common(old[i:], new[j:])])
        onward = next(((a, b) for a, b in blocks if a >= i and b >= j), None)
        if onward is None:
            break
        i, j = onward
    return pairs


def _overlap(
    old: Sequence[Hashable], new: Sequence[Hashable], alike: Callable[[int, int], bool]
) -> int:
    """Return the place in `old` where `new` begins: where most of it agrees in one stretch."""
    borders = _borders(new)
    starts = [0]
    inside = _ends_with(old, new, borders)
    starts += [place for place in inside.starts[:1]]
    starts += [len(old) - inside.length] if inside.length else []
    length = _ends_with(old[:-1], new, borders).length  # the last one may be answered by now
    while True:
        if length < len(new) and alike(len(old) - 1, length):
            starts.append(len(old) - 1 - length)
            break
        if not length:
            break
        length = borders[length - 1]

    def agreement(start: int) -> float:
        equal = 0
        most = min(len(old) - start, len(new))
        while equal < most and old[start + equal] == new[equal]:
            equal += 1
        return equal + (0.5 if equal < most and alike(start + equal, equal) else 0)

    return max(starts, key=lambda start: (agreement(start), start))


@dataclass
class _Ends:
    length: int
    """How much of the beginning of `new` `old` ends with."""
    starts: list[int]
    """Where all of `new` is in `old`."""


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


def _common(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return places of both with equal labels, ascending."""
    counts = Counter(new)
    if sum(counts[label] for label in old) > MOST_STEPS:
        return []
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]
