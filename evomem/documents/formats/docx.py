"""Word: paragraphs and tables below their headings."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

from evomem._extras import require
from evomem.documents.formats.parsed import Parsed
from evomem.errors import InputError

_HEADING = re.compile(r"Heading ([1-9])")
MAX_UNPACKED = 1 << 30  # bytes


def parse(data: bytes) -> Parsed:
    """Return the blocks of a Word document (`.docx`).

    Raises:
        InputError: It is not a Word document, or unpacks to more than 1 GiB.
        MissingExtra: The extra `documents` is not installed.
    """
    docx = require("docx", extra="documents")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise InputError(f"unpacks to {unpacked:,} bytes, the limit is {MAX_UNPACKED:,}")
        return _parsed(docx.Document(io.BytesIO(data)))
    except InputError:
        raise
    except (
        Exception
    ) as error:  # from the zip file, its XML, or its parts, some of which are read lazily
        raise InputError(f"is not a Word document: {error}") from error


def _parsed(document: Any) -> Parsed:
    parsed = Parsed(title=document.core_properties.title or "")
    _unwrap(document.element.body)
    for part in document.iter_inner_content():
        if hasattr(part, "rows"):
            parsed.block(_table(part))
        else:
            _paragraph(part, parsed)
    return parsed


def _unwrap(body: Any) -> None:
    """Replace content controls and tracked insertions, which python-docx skips, with their contents."""
    for wrapper in body.xpath(".//w:sdtContent | .//w:ins | .//w:moveTo | .//w:smartTag"):
        outer = wrapper.getparent() if wrapper.tag.endswith("}sdtContent") else wrapper
        for child in list(wrapper):
            outer.addprevious(child)
        outer.getparent().remove(outer)


def _paragraph(paragraph: Any, parsed: Parsed) -> None:
    style = paragraph.style.name or "" if paragraph.style is not None else ""
    if heading := _HEADING.fullmatch(style):
        parsed.heading(int(heading[1]), paragraph.text)
    elif style == "Title":
        parsed.title = parsed.title or paragraph.text.strip()
    elif style.startswith("List"):
        parsed.block(f"- {paragraph.text}" if paragraph.text.strip() else "")
    else:
        parsed.block(paragraph.text)


def _table(table: Any) -> str:
    """Return the lines of a table; a cell that spans several columns or rows appears once."""
    lines = []
    seen: set[Any] = set()
    for row in table.rows:
        cells = []
        for cell in row.cells:  # a spanning cell occurs in each of its positions
            if cell._tc not in seen:
                seen.add(cell._tc)
                cells.append(_cell(cell))
        if any(cells):
            lines.append(" | ".join(cells))
    return "\n".join(lines)


def _cell(cell: Any) -> str:
    """Return the text of a cell and of the tables in it, as one line."""
    parts = cell.iter_inner_content()
    texts = [_table(part) if hasattr(part, "rows") else part.text for part in parts]
    return " ".join(" ".join(texts).split())
