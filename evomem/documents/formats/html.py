"""HTML: the text of a page's body, without navigation, scripts and forms."""

from __future__ import annotations

import re
from typing import Any

from evomem._extras import require
from evomem.documents.formats.parsed import Parsed

_LEFT_OUT = (
    "script",
    "style",
    "noscript",
    "template",
    "nav",
    "aside",
    "form",
    "button",
    "svg",
    "head",
)
_INLINE = frozenset(
    "a abbr b bdi bdo cite code data del dfn em font i img ins kbd label mark q s samp small span "
    "strike strong sub sup time tt u var wbr".split()
)
_HEADING = re.compile(r"h[1-6]")
_LIST_ITEM = {"li": "- ", "dt": "", "dd": "  "}


def parse(data: bytes) -> Parsed:
    """Return the blocks of a page, decoded by its declared encoding."""
    soup = require("bs4", extra="documents").BeautifulSoup(data, "lxml")
    parsed = Parsed()
    if soup.title is not None:
        parsed.title = " ".join(soup.title.get_text().split())
    for tag in soup.find_all(_LEFT_OUT):
        tag.decompose()
    _read(soup.find("main") or soup.body or soup, parsed)
    return parsed


def _read(element: Any, parsed: Parsed) -> None:
    """Add the blocks of an element: each run of inline content is one."""
    line: list[str] = []

    def end() -> None:
        parsed.block(" ".join("".join(line).split()))
        line.clear()

    for child in element.children:
        name = child.name
        if name is None:  # text, or a comment, which is a subclass of text
            if type(child).__name__ == "NavigableString":
                line.append(str(child))
        elif name == "br":
            line.append("\n")
        elif name in _INLINE:
            line.append(child.get_text())
        else:
            end()
            _read_block(child, name, parsed)
    end()


def _read_block(child: Any, name: str, parsed: Parsed) -> None:
    if _HEADING.fullmatch(name):
        parsed.heading(int(name[1]), child.get_text())
    elif name == "pre":
        parsed.block(child.get_text())
    elif name in ("ul", "ol", "dl"):
        items = child.find_all(_LIST_ITEM, recursive=False)
        parsed.block("\n".join(_LIST_ITEM[item.name] + _line(item) for item in items))
    elif name == "table":
        rows = (
            [_line(cell) for cell in row.find_all(["td", "th"])] for row in child.find_all("tr")
        )
        parsed.block("\n".join(" | ".join(cells) for cells in rows if any(cells)))
    else:
        _read(child, parsed)


def _line(element: Any) -> str:
    return " ".join(element.get_text(" ").split())
