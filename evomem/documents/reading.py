"""Reads files as `Document`s, and finds the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from evomem.documents.formats import docx, html, markdown, pdf, text
from evomem.documents.formats.parsed import Parsed
from evomem.documents.model import Block, Document
from evomem.errors import InputError

_FORMATS: dict[str, Callable[[bytes], Parsed]] = {
    ".md": markdown.parse,
    ".markdown": markdown.parse,
    ".txt": text.parse,
    ".text": text.parse,
    ".html": html.parse,
    ".htm": html.parse,
    ".pdf": pdf.parse,
    ".docx": docx.parse,
}
SUFFIXES = tuple(_FORMATS)
"""The suffixes of readable files."""
MAX_BYTES = 256 << 20


def read(path: str | Path, *, name: str | None = None) -> Document:
    """Read a Markdown, text, HTML, PDF or Word file, depending on its suffix.

    Args:
        path: The file.
        name: The document's identifier; by default, the absolute path.

    Raises:
        InputError: The file cannot be read, is of another kind, or holds no text.
        MissingExtra: The extra `documents` is not installed.
    """
    path = Path(path)
    parse = _FORMATS.get(path.suffix.lower())
    if parse is None:
        raise InputError(
            f"{path} is not a readable document: its name must end with {', '.join(SUFFIXES)}"
        )
    try:
        size, changed = path.stat().st_size, path.stat().st_mtime
        if size > MAX_BYTES:
            raise InputError(f"{path} has {size:,} bytes, the limit is {MAX_BYTES:,}: split it")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        parsed = parse(data)
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    blocks = tuple(block for block in map(_clean, parsed.blocks) if block.text.strip())
    if not blocks:
        raise InputError(f"{path} holds no text{parsed.hint}")
    return Document(
        name=str(path.resolve()) if name is None else name,
        blocks=blocks,
        title=_without_nul(parsed.title).strip(),
        time=datetime.fromtimestamp(changed, timezone.utc),
    )


def files(path: str | Path) -> Iterator[Path]:
    """Yield the documents at a path: the file itself, or those in a folder, sorted.

    Hidden files and folders, and files of other types, are skipped.

    Raises:
        InputError: There is nothing at the path.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"there is no file or folder {path}")
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(folder, name)


def _clean(block: Block) -> Block:
    """Return a block without NULs and lone surrogates, which PDFs may contain and the log cannot store."""
    headings = tuple(_without_nul(heading) for heading in block.headings)
    return Block(_without_nul(block.text), headings, block.page)


def _without_nul(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "ignore").decode("utf-8")
