"""HTML: the text of a page's body, without navigation, scripts and small forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evomem._extras import require
from evomem.documents.formats.parsed import Parsed
from evomem.errors import InputError

_LEFT_OUT = (
    "script",
    "style",
    "noscript",
    "template",
    "nav",
    "aside",
    "button",
    "select",
    "textarea",
    "svg",
    "head",
)
_INLINE = frozenset(
    "a abbr b bdi bdo cite code data del dfn em font i img ins kbd label mark q s samp small span "
    "strike strong sub sup time tt u var wbr".split()
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_LISTS = ("ul", "ol", "dl")
_WHITE = re.compile(r"\s+")
_LIST_ITEM = {"li": "- ", "dt": "", "dd": "  "}


def parse(data: bytes) -> Parsed:
    """Return the blocks of a page. Raises `InputError`, `MissingExtra`."""
    bs4 = require("bs4", extra="documents")
    soup = bs4.BeautifulSoup(_decode(data, bs4), "lxml")
    parsed = Parsed()
    if soup.title is not None:
        parsed.title = " ".join(soup.title.get_text().split())
    for tag in soup.find_all(_LEFT_OUT):
        tag.decompose()
    _leave_out_forms(soup)
    _read(soup.find("main") or soup.body or soup, parsed)
    return parsed


def _leave_out_forms(soup: Any) -> None:
    """Remove forms, except one with most of the page's text: some sites put the whole page into a form."""
    length = len(_text(soup))
    for form in soup.find_all("form"):
        if not form.decomposed and 2 * len(_text(form)) < length:
            form.decompose()


def _decode(data: bytes, bs4: Any) -> str:
    """Return a page as text.

    Valid UTF-8 is read as UTF-8, regardless of the page's declaration; otherwise a byte order mark, the
    declaration, Windows-1252, and a guess from the bytes are tried in this order.
    """
    certain = () if data.isascii() else ("utf-8",)  # ISO-2022-JP consists of ASCII characters
    declared = bs4.dammit.EncodingDetector.find_declared_encoding(data, is_html=True)
    likely = [name for name in (declared, None if data.isascii() else "windows-1252") if name]
    text = bs4.UnicodeDammit(data, certain, user_encodings=likely, is_html=True).unicode_markup
    if text is None:
        raise InputError("has an unknown encoding: convert it to UTF-8")
    return str(text)


def _read(root: Any, parsed: Parsed) -> None:
    """Add the blocks of an element; consecutive inline content forms one block."""
    line: list[str] = []
    inside = [iter(root.children)]  # a stack of open elements, since depth is unlimited
    while inside:
        child = next(inside[-1], None)
        if _is_text(child):
            line.append(str(child))
        elif child is not None and child.name == "br":
            line.append("\n")
        elif child is not None and child.name in _INLINE and child.find(_parts) is None:
            line.append(_text(child))
        elif child is None or child.name is not None:
            parsed.block(" ".join("".join(line).split()))
            line.clear()
            if child is None:
                inside.pop()
            elif not _read_block(child, parsed):
                inside.append(iter(child.children))


def _read_block(element: Any, parsed: Parsed) -> bool:
    """Add an element that is one block; return False if it only contains others."""
    if element.name in _HEADINGS:
        parsed.heading(int(element.name[1]), _text(element))
    elif element.name == "pre":
        for tag in element.find_all("br"):
            tag.replace_with("\n")
        parsed.block(element.get_text())
    elif element.name in _LISTS:
        parsed.block("\n".join(_items(element)))
    elif element.name == "table" and element.find(("table", *_HEADINGS)) is None:
        rows = (
            [_text(cell).strip() for cell in row.find_all(("td", "th"))] for row in element("tr")
        )
        captions = [_text(caption).strip() for caption in element("caption")]
        parsed.block("\n".join([*captions, *(" | ".join(cells) for cells in rows if any(cells))]))
    else:
        return False
    return True


def _items(element: Any) -> Iterator[str]:
    """Yield the lines of a list, including those of lists and groups directly inside it."""
    for child in element.children:
        if child.name in _LIST_ITEM:
            yield _LIST_ITEM[child.name] + _text(child).strip()
        elif child.name is not None:
            yield from _items(child)


def _text(element: Any) -> str:
    """Return the text of an element, with single spaces between blocks and for white space."""
    parts: list[str] = []
    for node in element.descendants:
        if _is_block(node) or _is_block(node.previous_sibling):
            parts.append(" ")
        if _is_text(node):
            parts.append(str(node))
    return _WHITE.sub(" ", "".join(parts))


def _is_block(node: Any) -> bool:
    """Return whether a node separates the text before, inside and after it."""
    return node is not None and node.name is not None and node.name not in _INLINE


def _parts(node: Any) -> bool:
    """Return whether a node divides the content around it into blocks; a line break does not."""
    return _is_block(node) and node.name != "br"


def _is_text(node: Any) -> bool:
    return type(node).__name__ == "NavigableString"  # not its subclasses, such as comments
