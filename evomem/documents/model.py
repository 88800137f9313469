"""The parts of a document."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list, a table or a piece of code of a document."""

    text: str
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""
    page: int | None = None
    """The page, from 1; None if the format has no pages."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its structure."""

    name: str
    """Its identifier, a path or an address, which becomes the session of its turns."""
    blocks: tuple[Block, ...]
    title: str = ""
    """The document's own title; empty if it has none."""
    time: datetime | None = None
    """When it was last changed, with a time zone; None if unknown."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that becomes one turn."""

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
