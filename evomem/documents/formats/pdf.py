"""PDF: the text of each page."""

from __future__ import annotations

import io
import re

from evomem._extras import require
from evomem.documents.formats.parsed import Parsed
from evomem.errors import InputError

_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-zà-öø-ÿ])")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


def parse(data: bytes) -> Parsed:
    """Return the paragraphs of a PDF with their pages.

    Raises:
        InputError: The file is damaged, or encrypted.
        MissingExtra: The extra `documents` is not installed.
    """
    pypdf = require("pypdf", extra="documents")
    parsed = Parsed(hint=": its pages are pictures, read them with an OCR program first")
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError("is encrypted: save it without a password")
        if reader.metadata is not None:
            parsed.title = str(reader.metadata.title or "")
        for number, page in enumerate(reader.pages, 1):
            text = _BROKEN_WORD.sub("", page.extract_text())
            for paragraph in _PARAGRAPH.split(text):
                parsed.block(paragraph, number)
    except InputError:
        raise
    except pypdf.errors.DependencyError as error:
        raise InputError(f"is encrypted: save it without a password ({error})") from error
    except Exception as error:  # the library raises many kinds of errors on damaged files
        raise InputError(f"is a damaged PDF: {error}") from error
    return parsed
