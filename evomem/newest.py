"""The newest turns of a memory."""

from __future__ import annotations

from typing import Any

from evomem.memory_view import MemoryView
from evomem.records import Record


def newest(memory: MemoryView, limit: int, **filters: Any) -> list[Record]:
    """Return the last `limit` turns that pass the filters of `history`, oldest first.

    Reads the log from its end, in growing windows, since a memory may be long.
    """
    count, window = len(memory), 4 * limit
    while True:
        # seqs are distinct and start at 1, so at least `window` turns follow this one
        after = max(0, count - window)
        turns = memory.history(after=after, **filters)
        if len(turns) >= limit or not after:
            return turns[-limit:]
        window *= 8
