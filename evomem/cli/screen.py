"""The output of the command line: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from evomem.documents.places import place
from evomem.influence import Influence
from evomem.records import Hit, Record, Turn
from evomem.times.when import dated


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which treats it as success; rich would exit with 1."""
        raise BrokenPipeError


class Screen:
    """Tables for people, or JSON for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _Console(highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def result(self, value: dict[str, Any], *rendered: Table | Text) -> None:
        """Write a result: `value` as JSON, or `rendered` for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2) + "\n")
            sys.stdout.flush()  # a program that serves something waits for its address
            return
        for renderable in rendered:
            self.out.print(
                renderable, soft_wrap=isinstance(renderable, Text)
            )  # lines are the terminal's to break

    def note(self, text: str) -> None:
        """Print a message that is not part of the result."""
        self.err.print(Text(plain(text), style="dim"), soft_wrap=True)

    def error(self, text: str) -> None:
        """Print an error in one line."""
        line = " ".join(plain(text).split())
        self.err.print(Text.assemble(("evomem: ", "bold red"), line), soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Provide a function `(what, done, total)` that draws a progress bar, on a terminal only."""
        with Progress(
            console=self.err, transient=True, disable=not self.err.is_terminal
        ) as progress:
            tasks: dict[str, Any] = {}

            def update(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done)

            yield update


def plain(text: str) -> str:
    """Return stored text without characters that a terminal would interpret."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def hits_table(hits: Sequence[Hit], zone: tzinfo) -> Table:
    """Return hits with rank, score and the parts of the score."""
    sources = any(hit.record.turn.source for hit in hits)
    table = _table(
        ("rank", True),
        ("score", True),
        "made of",
        "turn",
        "time",
        *(["source"] if sources else []),
        "text",
    )
    for rank, hit in enumerate(hits, 1):
        table.add_row(
            str(rank),
            f"{hit.score:.3f}",
            Text("\n".join(f"{name} {value:.2f}" for name, value in hit.parts.items())),
            str(hit.seq),
            dated(hit.record.time, zone),
            *([Text(plain(hit.record.turn.source or ""))] if sources else []),
            Text.assemble(
                plain(hit.text),
                _place(hit.record),
                *(
                    (f"\nbefore ({dated(old.time, zone)}): {plain(old.text)}", "dim")
                    for old in hit.replaced
                ),
            ),
        )
    return table


def timeline(records: Sequence[Record], zone: tzinfo) -> Table:
    """Return records in order; replaced ones name their replacement."""
    sources = any(record.turn.source for record in records)
    table = _table(("turn", True), "time", "session", *(["source"] if sources else []), "text")
    for record in records:
        table.add_row(
            str(record.seq),
            dated(record.time, zone),
            Text(plain(record.turn.session or "")),
            *([Text(plain(record.turn.source or ""))] if sources else []),
            Text.assemble(
                plain(record.text),
                _place(record),
                (f"\n(replaced by turn {record.replaced_by})", "dim") if record.replaced_by else "",
            ),
        )
    return table


def _place(record: Record) -> tuple[str, str] | str:
    """Return a line with the place of a document's passage."""
    location = place(record)
    return (f"\n{plain(location)}", "dim") if location else ""


def influence_table(influence: Influence) -> Table:
    """Return a turn's influence, one row per memory and kind of influence."""
    table = _table("memory", "", ("turns", True), "ids")
    for branch in (influence, *influence.forks):
        for name, ids in (
            ("read in its light", branch.direct),
            ("read after those", branch.indirect),
            ("answers that recalled it", branch.answers),
        ):
            table.add_row(
                Text(plain("/".join(branch.memory))), name, str(len(ids)), Text(plain(_some(ids)))
            )
    return table


def exchanges_table(turns: Sequence[Turn]) -> Table:
    """Return turns that are not stored yet, in order."""
    table = _table("time (UTC)", "session", "text")
    for turn in turns:
        time = f"{turn.time:%Y-%m-%d %H:%M}" if turn.time else ""
        table.add_row(time, Text(plain(turn.session or "")), Text(plain(turn.text)))
    return table


def formats_table(formats: Mapping[str, str]) -> Table:
    """Return names of formats with descriptions."""
    table = _table("format", "what it is")
    for name, about in formats.items():
        table.add_row(name, about)
    return table


def facts(values: dict[str, Any], names: Sequence[tuple[str, int]]) -> Table:
    """Return a database's figures, then its memories with their numbers of turns."""
    table = _table("", ("", True), header=False)
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(Text(plain(name.replace("_", " "))), Text(plain(shown)))
    for name, count in names:
        table.add_row(Text(plain(f"turns in {name}")), f"{count:,}")
    return table


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")


def _table(*columns: str | tuple[str, bool], header: bool = True) -> Table:
    table = Table(
        box=None, show_header=header, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        name, number = (column, False) if isinstance(column, str) else column
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table
