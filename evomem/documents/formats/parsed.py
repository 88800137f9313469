"""`Parsed`: the result of a format's parser, which tracks the open headings during parsing."""

from __future__ import annotations

from dataclasses import dataclass, field

from evomem.documents.model import Block


@dataclass
class Parsed:
    """Blocks of text in reading order, below the headings that were open."""

    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    hint: str = ""
    """The remedy if there is no text, appended to "holds no text"."""
    _open: list[tuple[int, str]] = field(default_factory=list)

    def heading(self, level: int, text: str) -> None:
        """Begin a section; the first of level 1 becomes the title of a document without a title."""
        text = " ".join(text.split())
        if not text:
            return
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, text))
        if level == 1 and not self.title:
            self.title = text

    def block(self, text: str, page: int | None = None) -> None:
        """Add text below the open headings."""
        if text.strip():
            self.blocks.append(Block(text.strip("\n"), tuple(text for _, text in self._open), page))
