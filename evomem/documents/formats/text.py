"""Plain text: paragraphs between empty lines."""

from __future__ import annotations

import codecs
import re

from evomem.documents.formats.parsed import Parsed
from evomem.errors import InputError

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def parse(data: bytes) -> Parsed:
    """Return the paragraphs of a text. Raises `InputError` if it is not UTF-8 or marked UTF-16."""
    parsed = Parsed()
    for paragraph in re.split(r"\n[ \t]*\n", decode(data)):
        parsed.block(paragraph)
    return parsed


def decode(data: bytes) -> str:
    """Return text with line feeds only. Raises `InputError` if it is in no known encoding."""
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not {encoding.upper()} at byte {error.start:,}: convert it, "
            "for example with iconv -f latin1 -t utf-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
