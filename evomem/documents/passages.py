"""Splits documents into passages: adjacent blocks below one heading, with long blocks cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from evomem._extras import require
from evomem.documents.model import Block, Document, Passage
from evomem.errors import InputError
from evomem.records import MAX_CHARS

LEAST = 100
LENGTH = 900
"""The most characters of a passage: one window of the bundled encoder."""

PIECE = 1 << 15  # characters per call of the splitter, whose time grows quadratically


def passages(document: Document, *, length: int = LENGTH) -> list[Passage]:
    """Split a document into passages.

    Blocks with the same headings, on the same page, are joined up to `length` characters.
    A longer block is cut between paragraphs, lines, sentences or words, whichever is the largest
    unit that fits.

    Args:
        document: The document.
        length: The most characters of a passage.

    Raises:
        InputError: `length` is below 100 or above 262,144.
        MissingExtra: The extra `documents` is not installed.
    """
    if not LEAST <= length <= MAX_CHARS:
        raise InputError(f"length must be between {LEAST} and {MAX_CHARS:,}, got {length!r}")
    splitter = require("semantic_text_splitter", extra="documents").TextSplitter(length)
    cut: list[Passage] = []
    for (headings, page), group in groupby(document.blocks, lambda b: (b.headings, b.page)):
        cut += [Passage(text, headings, page) for text in _texts(list(group), splitter, length)]
    return cut


def _texts(blocks: list[Block], splitter: Any, length: int) -> Iterator[str]:
    """Yield the texts of the passages of one section, none longer than `length`."""
    waiting = ""
    for block in blocks:
        text = block.text.strip()
        if waiting and len(waiting) + 2 + len(text) > length:
            yield waiting
            waiting = ""
        if len(text) > length:
            *complete, text = _cut(text, splitter, max(PIECE, 2 * length))
            yield from complete
        waiting = f"{waiting}\n\n{text}" if waiting else text
    if waiting:
        yield waiting


def _cut(text: str, splitter: Any, size: int) -> list[str]:
    """Return the chunks of a text, which is passed to the splitter in pieces of about `size`."""
    chunks = [""]
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            space = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = space if space > 0 else end
        chunks[-1:] = splitter.chunks(chunks[-1] + text[start:end])  # the last chunk may continue
        start = end
    return chunks
