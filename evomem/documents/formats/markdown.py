"""Markdown: blocks in Markdown, below their headings."""

from __future__ import annotations

import re

from evomem._extras import require
from evomem.documents.formats.parsed import Parsed
from evomem.documents.formats.text import decode

_FRONT = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)


def parse(data: bytes) -> Parsed:
    """Return the blocks of a Markdown text. Raises `InputError`, `MissingExtra`."""
    text = decode(data)
    parsed = Parsed()
    if front := _FRONT.match(text):
        if title := _TITLE.search(front[1]):
            parsed.title = title[2]
        text = text[front.end() :]
    lines = text.split("\n")
    reader = require("markdown_it", extra="documents").MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    for place, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        first, last = token.map
        if token.type == "heading_open":
            parsed.heading(int(token.tag[1:]), _plain(tokens[place + 1]))
        elif token.type != "hr":
            parsed.block("\n".join(lines[first:last]).rstrip())
    return parsed


def _plain(inline: object) -> str:
    """Return the text of a heading without markup."""
    children = getattr(inline, "children", None) or ()
    return "".join(child.content or " " * (child.type == "softbreak") for child in children)
