"""A page as a list of blocks, to be written as Markdown or as one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto }
img { max-width: 100% }"""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the title of the page."""

    level: int
    text: str

    def markdown(self) -> str:
        """Return it as Markdown."""
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        """Return it as HTML."""
        return f"<h{self.level}>{escape(self.text)}</h{self.level}>"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str

    def markdown(self) -> str:
        """Return it as Markdown."""
        return self.text

    def html(self) -> str:
        """Return it as HTML."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True, slots=True)
class Code:
    """Preformatted lines."""

    text: str

    def markdown(self) -> str:
        """Return it as Markdown."""
        return f"```\n{self.text}\n```"

    def html(self) -> str:
        """Return it as HTML."""
        return f"<pre>{escape(self.text)}</pre>"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a head; columns other than the first are right-aligned."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)

    def html(self) -> str:
        """Return it as HTML."""

        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        rows = "\n".join(line(row, "td") for row in self.rows)
        return f"<table>\n{line(self.head, 'th')}\n{rows}\n</table>"


@dataclass(frozen=True, slots=True)
class Image:
    """A figure, linked from Markdown and embedded in HTML."""

    path: Path
    link: str
    """The path of the figure from the Markdown page."""

    def markdown(self) -> str:
        """Return it as Markdown."""
        return f"![{self.path.stem}]({self.link})"

    def html(self) -> str:
        """Return it as HTML."""
        data = base64.b64encode(self.path.read_bytes()).decode()
        source = f"data:{_TYPES[self.path.suffix]};base64,{data}"
        return f'<img alt="{escape(self.path.stem)}" src="{source}">'


Block = Heading | Text | Code | Table | Image


def as_markdown(blocks: Sequence[Block]) -> str:
    """Return the page as Markdown."""
    return "\n\n".join(block.markdown() for block in blocks) + "\n"


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the page as self-contained HTML."""
    body = "\n".join(block.html() for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style>\n{body}\n</html>\n"
    )
