"""Files in a memory: each file is one turn, which its next version replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anthropic.lib.tools import ToolError

from evomem.adapter import clean, note_cleaned
from evomem.memory import Memory
from evomem.records import MAX_CHARS, Record, Turn
from evomem_integrations.anthropic.paths import ROOT, parents, tree

FILE = "memory_file"
"""Metadata key: the path of the file that a turn holds."""
BLANK = "memory_file_blank"
"""Metadata key: the text of a file of white space only, which a turn cannot hold."""


class Files:
    """The files of one memory. Paths are in the form that `paths.normal` returns."""

    def __init__(self, memory: Memory, source: str | None, purge: bool) -> None:
        self._memory = memory
        self._source = source
        self._purge = purge

    def text(self, path: str) -> str | None:
        """Return the content of a file, or None if it does not exist."""
        stored = self._memory.history(session=path, where={FILE: path})
        return text_of(stored[-1]) if stored else None

    def change(self, path: str, new: Callable[[str | None], str]) -> None:
        """Write a file in one transaction.

        Args:
            path: The file.
            new: Maps the file's content (None if it does not exist) to the new content. It is called
                again if another process has written to the file.
        """
        written: list[Turn] = []

        def build(stored: Sequence[Record]) -> list[Turn]:
            before = text_of(stored[-1]) if stored else None
            after = new(before)
            written[:] = [] if after == before else [self._turn(path, after)]
            return written

        self._memory.replace_sessions([path], build, where={FILE: path})
        for turn in written:
            note_cleaned(turn.metadata)

    def move(self, old: str, new: str) -> None:
        """Move a file, or each file of a directory, to another path."""
        for record in self._within(old):
            path = record.turn.metadata[FILE]
            turn = self._turn(new + path[len(old) :], text_of(record))
            self._memory.add(
                turn.user,
                speaker=turn.speaker,
                session=turn.session,
                metadata=turn.metadata,
                source=turn.source,
                time=record.time,
                supersedes=record.id,
            )

    def remove(self, path: str) -> None:
        """Delete a file, or each file of a directory; with `purge`, all of their versions."""
        for record in self._within(path):
            if not self._purge:
                self._memory.delete(record.id)
                continue
            for version in self.versions(record.turn.metadata[FILE]):
                self._memory.purge(version.id)

    def kind(self, path: str) -> str | None:
        """Return `"file"`, `"directory"`, or None if the path does not exist; the root always does."""
        if self.text(path) is not None:
            return "file"
        return "directory" if path == ROOT or self._within(path) else None

    def occupied(self, path: str) -> str | None:
        """Return the first parent directory of `path` that is a file, None if there is none."""
        return next((above for above in parents(path) if self.text(above) is not None), None)

    def tree(self, path: str) -> list[tuple[int, str]]:
        """Return the listing of a directory, as sizes in bytes and paths."""
        sizes = {r.turn.metadata[FILE]: len(text_of(r).encode()) for r in self._all()}
        return tree(path, sizes)

    def versions(self, path: str) -> list[Record]:
        """Return all versions of a file, under this path or earlier ones, oldest first."""
        records = self._memory.history(where={FILE: {"$exists": True}}, all=True)
        current = [r for r in records if r.replaced_by is None and r.turn.metadata[FILE] == path]
        seqs = {record.seq for record in current}
        for record in reversed(records):
            if record.replaced_by in seqs:
                seqs.add(record.seq)
        return [record for record in records if record.seq in seqs]

    def _all(self) -> list[Record]:
        return self._memory.history(where={FILE: {"$exists": True}})

    def _within(self, path: str) -> list[Record]:
        return [r for r in self._all() if f"{r.turn.metadata[FILE]}/".startswith(f"{path}/")]

    def _turn(self, path: str, text: str) -> Turn:
        if len(text) > MAX_CHARS:
            raise ToolError(
                f"File {path} would have {len(text):,} characters; the limit is {MAX_CHARS:,}. "
                "Split it into several files."
            )
        cleaned, changes = clean(text)
        metadata: dict[str, Any] = {FILE: path}
        if changes:
            metadata["cleaned_user"] = list(changes)
        if not cleaned.strip():
            metadata[BLANK] = cleaned
            cleaned = "(empty)"
        return Turn(
            user=cleaned, speaker=path, session=path, metadata=metadata, source=self._source
        )


def text_of(record: Record) -> str:
    """Return the content of a file."""
    blank = record.turn.metadata.get(BLANK)
    return record.turn.user if blank is None else str(blank)
