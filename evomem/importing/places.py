"""Finds the turns that an exchange replaces, after equal exchanges were matched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from evomem.importing.entries import Entry, times_agree
from evomem.importing.matching import is_part


def find_moved(
    told: Sequence[Entry], new: Sequence[Entry], places: list[int | None], free: set[int]
) -> None:
    """Match turns that are out of order, since a replacement comes after the other turns."""
    first = min((place for place in places if place is not None), default=len(told))
    followers: dict[object, list[int]] = defaultdict(list)
    for i in sorted(free, reverse=True):
        if i > first:
            followers[told[i].label].append(i)
    for j, entry in enumerate(new):
        same = followers.get(entry.label) if places[j] is None else None
        if same and times_agree(told[same[-1]], entry):
            places[j] = same.pop()
            free.discard(places[j] or 0)


def matched_beside(places: Sequence[int | None]) -> list[tuple[int, int]]:
    """Return the nearest matched exchanges before and after each; -1 and the length if there are none."""
    before, result = -1, [(-1, len(places))] * len(places)
    for j, place in enumerate(places):
        result[j] = (before, len(places))
        before = before if place is None else j
    after = len(places)
    for j in range(len(places) - 1, -1, -1):
        result[j] = (result[j][0], after)
        after = after if places[j] is None else j
    return result


def replaced_with(
    told: Sequence[Entry],
    new: Sequence[Entry],
    places: Sequence[int | None],
    j: int,
    beside: tuple[int, int],
    free: set[int],
) -> list[int]:
    """Return the unmatched places of `told` whose turns exchange `j` replaces as well.

    These are parts of it (a question and its answer that were stored separately), and turns in its
    place between two matched exchanges.
    """
    before, after = beside
    low = -1 if before < 0 else places[before]
    high = len(told) if after == len(new) else places[after]
    assert low is not None  # both are matched
    assert high is not None
    place = places[j]
    if place is not None:
        onward = _parts_of(told, range(place + 1, high), new[j], free)
        return onward + _parts_of(told, range(place - 1, low, -1), new[j], free)
    gap = [i for i in range(low + 1, high) if i in free]
    parts = _parts_of(told, gap[::-1], new[j], free)
    if parts or before < 0:
        return parts
    if new[j].ids and told[low].ids & new[before].ids and all(_has_ids(told[i]) for i in gap):
        return gap  # the export has message ids, and lacks these turns' ids
    return gap[:1] if after < len(new) and len(gap) == after - j else []


def _parts_of(
    told: Sequence[Entry], places: Iterable[int], new: Entry, free: set[int]
) -> list[int]:
    """Return the first of `places` whose turns are parts of an exchange."""
    parts = []
    for i in places:
        if i not in free or not is_part(told[i].turn, new.turn):
            break
        parts.append(i)
    return parts


def _has_ids(entry: Entry) -> bool:
    return not all(len(id) == 32 for id in entry.ids)
