"""Histories of turns that share words with a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evomem.checks import check_filter, check_query
from evomem.memory_view import MemoryView
from evomem.records import Record


def history_with(
    seen: MemoryView, words: str, *, after: int, limit: int, all: bool, **filters: Any
) -> list[Record]:
    """Return the turns of `seen.history` that share a word with `words`, oldest first.

    Words are compared as in lexical search: endings do not matter.

    Raises:
        QueryError: An argument is invalid.
    """
    check_query(words)
    condition = check_filter(**filters)
    store = seen._engine.store
    with store.snapshot():
        view = replace(seen._view(), with_replaced=all)
        seqs = store.select(view, condition).among(store.lexical(view, words).seqs)
        records = store.records(view, seqs[seqs > after][:limit].tolist()).values()
        by = store.replacements(view) if all else {}
    return [replace(record, replaced_by=by.get(record.seq)) for record in records]
