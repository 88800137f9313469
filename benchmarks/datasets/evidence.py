"""Parses hand-written evidence labels such as "D8:6; D9:17", which have many spellings."""

from __future__ import annotations

import re

from benchmarks.datasets.base import Conversation

# "D8:6", "D 2:18", "D30:05", "D:11:26", "D17;39", "23:29", and as the start of "D12:11-D12:14"
_LABEL = re.compile(
    r"(?:D\s*:?\s*)?(\d+)\s*[:;]\s*(\d+)(?:\s*-\s*D?\s*(?:(\d+)\s*:\s*)?(\d+)(?!\d*\s*:))?"
)


def turn_ids(label: str) -> list[str]:
    """Return the turn ids in a label, with ranges within a day expanded.

    >>> turn_ids("D8:6; D9:17"), turn_ids("D30:05"), turn_ids("D:11:26"), turn_ids("D20:6.")
    (['D8:6', 'D9:17'], ['D30:5'], ['D11:26'], ['D20:6'])
    >>> turn_ids("D12:11-D12:13;D13:25"), turn_ids("D9:1 D4:4"), turn_ids("D13:45:D20:19")
    (['D12:11', 'D12:12', 'D12:13', 'D13:25'], ['D9:1', 'D4:4'], ['D13:45', 'D20:19'])
    >>> turn_ids("D"), turn_ids("D58"), turn_ids("D:56"), turn_ids("")
    ([], [], [], [])
    """
    ids = []
    for match in _LABEL.finditer(label):
        day, first = int(match[1]), int(match[2])
        last_day = int(match[3]) if match[3] else day
        last = int(match[4]) if match[4] else first
        if last_day != day:  # a range over several days: only its ends are known
            ids += [f"D{day}:{first}", f"D{last_day}:{last}"]
        else:
            ids += [f"D{day}:{number}" for number in range(first, max(first, last) + 1)]
    return ids


def resolve(conversation: Conversation, labels: list[str]) -> list[str]:
    """Return the ids of existing turns in `labels`; count repaired and dangling labels."""
    resolved: list[str] = []
    for label in labels:
        if label in conversation.places:
            resolved.append(label)
            continue
        ids = [turn_id for turn_id in turn_ids(label) if turn_id in conversation.places]
        resolved += ids
        if ids:
            conversation.repaired += 1
        else:
            conversation.dangling += 1
    return resolved
