"""Hits as the lines of a prompt, within a budget of tokens: what `MemoryView.context` returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import tzinfo

from evomem.errors import QueryError
from evomem.records import Context, Hit, Record
from evomem.search.excerpt import excerpt
from evomem.times.when import dated


def fit(
    hits: Sequence[Hit], query: str, max_tokens: int, count: Callable[[str], int], zone: tzinfo
) -> Context:
    """Return the best hits that fit a budget as dated lines, in the order in which they were said.

    Args:
        hits: Best first.
        query: The question; a hit that does not fit is cut around its words.
        max_tokens: The budget.
        count: Returns the number of tokens of a text.
        zone: The time zone of the lines.

    Raises:
        QueryError: `max_tokens` is too small for any text.
    """
    chosen: list[tuple[Record, str]] = []
    used = 0
    for hit in hits:
        line = _line(hit.record, zone, hit.text)
        cost = count(line + "\n")
        if used + cost > max_tokens:
            if chosen:
                continue
            line = _cut_line(hit.record, zone, query, count, max_tokens, len(hits) > 1)
            cost = count(line + "\n")
        chosen.append((hit.record, line))
        used += cost
    while True:
        shown = sorted(chosen, key=lambda item: (item[0].time, item[0].seq))
        text = "\n".join(line for _, line in shown)
        if len(chosen) < 2 or count(text) <= max_tokens:
            return Context(text, [record.id for record, _ in shown])
        chosen.pop()  # joined lines may have more tokens than the sum of the lines


def _line(record: Record, zone: tzinfo, text: str) -> str:
    """Return a line of a context: time, session, page of a document and id, and the text."""
    facts = [dated(record.time, zone)]
    if record.turn.session is not None:
        facts.append(f"session {_plain(record.turn.session)}")
    page = record.turn.metadata.get("page")
    if "document" in record.turn.metadata and page is not None:
        facts.append(f"page {_plain(str(page))}")
    return f"[{', '.join([*facts, f'id {_plain(record.id)}'])}] {text}"


def _plain(label: str) -> str:
    """Return a label without characters that would end the bracket at the start of a line."""
    return re.sub(r"[\s\[\]]+", " ", label)


def _cut_line(
    record: Record,
    zone: tzinfo,
    query: str,
    count: Callable[[str], int],
    budget: int,
    leave_room: bool,
) -> str:
    """Return a line cut to half of the budget, or to all of it if half leaves no text."""
    turn = record.turn
    labels = [0]
    if turn.role == "exchange":
        labels.append(len(turn.text) - len(f"Assistant: {turn.assistant}"))
    for limit in [budget // 2, budget] if leave_room else [budget]:

        def fits(part: str, limit: int = limit) -> bool:
            return count(_line(record, zone, part) + "\n") <= limit

        part = excerpt(turn.text, query, fits, labels)
        if part is not None:
            return _line(record, zone, part)
    least = count(_line(record, zone, "") + "\n")
    raise QueryError(
        f"max_tokens={budget} is too small to show any text: the time of a turn alone takes "
        f"{least} tokens; allow more"
    )
