"""The location of a passage: stored in the metadata of its turn, and shown with a hit."""

from __future__ import annotations

from typing import Any

from evomem.documents.model import Document, Passage
from evomem.records import MAX_LABEL, Hit, Record

SOURCE = "document"
"""The default source of documents' turns, for searches in documents or outside them."""
STEP = " › "  # between a heading and the one below it


def heading_path(document: Document, passage: Passage) -> str:
    """Return a passage's title and headings on one line; the document's name if there are none."""
    names = [document.title, *passage.headings]
    steps = [name for place, name in enumerate(names) if name and name not in names[:place]]
    line = STEP.join(" ".join(step.split()) for step in steps) or document.name
    return line if len(line) <= MAX_LABEL else f"…{line[1 - MAX_LABEL :]}"


def metadata_of(document: Document, passage: Passage) -> dict[str, Any]:
    """Return the metadata of a passage's turn."""
    values: dict[str, Any] = {"document": document.name}
    if document.title:
        values["title"] = document.title[:MAX_LABEL]
    if passage.headings:
        values["headings"] = [heading[:MAX_LABEL] for heading in passage.headings]
    if passage.page is not None:
        values["page"] = passage.page
    return values


def place(turn: Hit | Record) -> str:
    """Return the location of a turn's passage, for citations; empty for a turn of a conversation.

    Examples:
        >>> from datetime import datetime, timezone
        >>> from evomem import Turn
        >>> metadata = {"document": "manual.pdf", "title": "Pump", "headings": ["Safety"], "page": 3}
        >>> turn = Turn(user="Switch it off.", metadata=metadata)
        >>> place(Record(1, turn, datetime.now(timezone.utc)))
        'Pump › Safety, page 3 (manual.pdf)'
    """
    record = turn.record if isinstance(turn, Hit) else turn
    values = record.turn.metadata
    name = values.get("document")
    if not isinstance(name, str):
        return ""
    steps = [str(step) for step in (values.get("title"), *values.get("headings", ())) if step]
    line = STEP.join(dict.fromkeys(steps))
    if "page" in values:
        line += f"{', ' if line else ''}page {values['page']}"
    return f"{line} ({name})" if line else name
