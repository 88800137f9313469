"""Documents from LangChain's and LlamaIndex's loaders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evomem.documents.model import Block, Document
from evomem.errors import InputError

_NAMES = ("source", "file_path", "url", "file_name")  # metadata keys, best first
_PAGES = ("page_label", "page", "page_number")


def from_loader(parts: Iterable[Any]) -> list[Document]:
    """Return the documents of a loader's objects, in the order of their first parts.

    Args:
        parts: Objects with `page_content` (LangChain) or `text` (LlamaIndex) and `metadata`, such as
            the pages of a PDF. Parts with the same `source`, `file_path` or `url` form one document.

    Raises:
        InputError: An object is of another kind, or its metadata names no source.
    """
    blocks: dict[str, list[Block]] = {}
    titles: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        text = getattr(part, "page_content", None)
        if text is None:
            text = getattr(part, "text", None)
        values = getattr(part, "metadata", None)
        if not isinstance(text, str) or not isinstance(values, Mapping):
            raise InputError(
                f"document {number} is a {type(part).__name__}, not an object of a LangChain or "
                "LlamaIndex loader, which has a text and metadata"
            )
        name = next((str(values[key]) for key in _NAMES if values.get(key)), None)
        if name is None:
            raise InputError(
                f"document {number} does not say where it is from: set metadata['source']"
            )
        titles.setdefault(name, str(values.get("title") or ""))
        page = _page(values)
        paragraphs = text.split("\n\n")
        blocks.setdefault(name, []).extend(Block(t, (), page) for t in paragraphs if t.strip())
    return [Document(name, tuple(blocks[name]), titles[name]) for name in blocks if blocks[name]]


def _page(values: Mapping[str, Any]) -> int | None:
    """Return the page, from 1; LangChain's `page` counts from 0, its `page_label` from 1."""
    for key in _PAGES:
        value = str(values.get(key, ""))
        if value.isdecimal():
            return int(value) + (key == "page")
    return None
