"""Which exchanges of a conversation a memory holds already, when the conversation comes again.

Pure functions: `told` is what the memory holds of the conversation, `new` is another export of it,
perhaps only of its newest messages. Both are in order. `match` pairs them: equal exchanges, then
those that ask the same in the same place, whose answers came later, were made anew, or were edited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from evomem.records import Turn
from evomem.tombstones import LONG_ID

MOST_STEPS = 5_000_000  # of `difflib`, whose time grows with the repetitions in both sequences


@dataclass(eq=False, slots=True)
class Told:
    """An exchange, in a memory or in an export."""

    turn: Turn
    ids: frozenset[str] = frozenset()
    """Of its messages; of a stored turn, its own."""
    timed: bool = False
    """Whether the time is the source's, not that of storing."""

    @property
    def label(self) -> tuple[str, str, str | None]:
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
        pairs = _align(olds, news, lambda i, j: _asks_the_same(told[i], new[j], with_times))
        found = [(told[i], new[j]) for j, i in enumerate(pairs) if i is not None]
        # one text said at two times is no sign of the same conversation; several are
        if len(found) > 1 or (found and (with_times or _same_time(*found[0]))):
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


def rest_of(said: str, texts: Sequence[str]) -> int:
    """Return how many of `texts`, joined by line breaks, are the end of `said`: as many as can be."""
    for count in range(len(texts), 0, -1):
        if _ends(said, "\n".join(texts[:count])):
            return count
    return 0


def _begins(whole: str, part: str) -> bool:
    if not whole.startswith(part):
        return False
    return len(part) in (0, len(whole)) or whole[len(part)].isspace() or part[-1].isspace()


def _ends(whole: str, part: str) -> bool:
    return bool(part) and (whole == part or whole.endswith("\n" + part))


def _within(part: str, whole: str) -> bool:
    return not part or f"\n{part}\n" in f"\n{whole}\n"


# ---------------------------------------------------------------------------------------------


def _labels(
    told: Sequence[Told], new: Sequence[Told], with_times: bool
) -> tuple[list[Hashable], list[Hashable]]:
    """Return what stands for each exchange: equal labels mean the same one."""
    known = _by_id(told, new)
    shared = set(known) - {None}
    # without a shared id, every export may make ids of its own
    gone = {
        place
        for place, each in enumerate(told)
        if shared and each.ids and not any(map(_made_up, each.ids))
    }

    def label(each: Told) -> Hashable:
        return (*each.label, each.turn.time if with_times and each.timed else None)

    olds: list[Hashable] = [
        ("id", place) if place in shared or place in gone else label(each)
        for place, each in enumerate(told)
    ]
    news: list[Hashable] = [
        label(each) if place is None else ("id", place)
        for each, place in zip(new, known, strict=True)
    ]
    return olds, news


def _by_id(told: Sequence[Told], new: Sequence[Told]) -> list[int | None]:
    """Return, for each exchange of `new`, the place in `told` of one that shares a message id.

    Short ids may be counters that begin anew in every export: they count if most of the exchanges
    that share one ask the same.
    """
    places = {id: place for place, each in enumerate(told) for id in each.ids}
    known = [next((places[id] for id in each.ids if id in places), None) for each in new]
    pairs = [(told[i], each) for i, each in zip(known, new, strict=True) if i is not None]
    agree = sum(old.turn.user == each.turn.user for old, each in pairs)
    short = any(len(id) < LONG_ID for old, each in pairs for id in old.ids & each.ids)
    return [None] * len(new) if short and 2 * agree < len(pairs) else known


def _made_up(id: str) -> bool:
    """Return whether an id may be a digest that an import made for want of another."""
    return len(id) == 32 and all(char in "0123456789abcdef" for char in id)


def _same_time(told: Told, new: Told) -> bool:
    return not (told.timed and new.timed) or told.turn.time == new.turn.time


def _asks_the_same(told: Told, new: Told, with_times: bool) -> bool:
    same = told.turn.user == new.turn.user and told.turn.speaker == new.turn.speaker
    return same and bool(told.turn.user) and (not with_times or _same_time(told, new))


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
    starts += [place for place in inside.whole[:1]]
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
    whole: list[int]
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
    length, whole = 0, []
    for place, label in enumerate(old):
        while length and (length == len(new) or label != new[length]):
            length = borders[length - 1]
        length += label == new[length]
        if length == len(new):
            whole.append(place - length + 1)
    return _Ends(length, whole)


def _common(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return places of both with equal labels, ascending."""
    counts = Counter(new)
    if sum(counts[label] for label in old) > MOST_STEPS:
        return []
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]
