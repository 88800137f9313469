"""Adds a document to a memory, by comparing the stored passages with the document's."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evomem.documents.model import Document
from evomem.documents.passages import LENGTH, passages
from evomem.documents.places import SOURCE, heading_path, metadata_of
from evomem.documents.reading import read
from evomem.errors import InputError, SharedTurns
from evomem.forgetting import Progress
from evomem.records import MAX_LABEL, Record, Turn

if TYPE_CHECKING:
    from evomem.memory import Memory


@dataclass(frozen=True, slots=True)
class Ingested:
    """The result of adding a document, in passages."""

    name: str
    """The document's name, the session of its turns."""
    added: int = 0
    replaced: int = 0
    """New passages that replaced others, which stay visible `at` earlier points."""
    deleted: int = 0
    """Passages removed from the document; they are hidden (`Memory.delete`)."""
    moved: int = 0
    """Passages with the same text whose page or headings changed."""
    unchanged: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.added or self.replaced or self.deleted or self.moved)


def add_document(
    memory: Memory,
    document: Document | str | Path,
    *,
    name: str | None = None,
    source: str = SOURCE,
    length: int = LENGTH,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Ingested:
    """Bring a memory up to date with a document; see `Memory.add_document`."""
    if isinstance(document, str | Path):
        document = read(document, name=name)
    elif name is not None:
        raise InputError("name= is only for files; a Document already has a name")
    if len(document.name) > MAX_LABEL:
        raise InputError(
            f"the document's name has {len(document.name):,} characters, the limit is "
            f"{MAX_LABEL}: choose a shorter one with name="
        )
    turns = turns_of(document, source, length)
    stored = memory.history(session=document.name, where={"document": document.name})
    return _Change(memory, document.name, stored, turns).apply(dry_run, progress)


def turns_of(document: Document, source: str = SOURCE, length: int = LENGTH) -> list[Turn]:
    """Return the turns of a document's passages, in its order. Raises `TurnError`."""
    return [
        Turn(
            user=passage.text,
            speaker=heading_path(document, passage),
            session=document.name,
            time=document.time,
            metadata=metadata_of(document, passage),
            source=source,
        )
        for passage in passages(document, length=length)
    ]


def document_names(memory: Memory, *, below: str | Path | None = None) -> list[str]:
    """Return the names of the documents in a memory, or of those below a folder, sorted."""
    records = memory.history(where={"document": {"$exists": True}})
    names = {str(record.turn.metadata["document"]) for record in records}
    if below is not None:
        folder = Path(below).resolve()
        names = {name for name in names if folder in (Path(name), *Path(name).parents)}
    return sorted(names)


class _Change:
    """The difference between the stored turns and the document's."""

    def __init__(
        self, memory: Memory, name: str, stored: Sequence[Record], turns: Sequence[Turn]
    ) -> None:
        self._memory, self._name = memory, name
        self._same: list[tuple[Record, Turn]] = []
        self._new: list[Turn] = []
        self._replaced: list[tuple[Record, Turn]] = []
        self._removed: list[Record] = []
        start = 0
        unmatched: list[Record] = []
        for record, place in _in_document_order(stored, turns):
            if place is None:
                unmatched.append(record)
            else:
                self._add_gap(unmatched, turns[start:place])
                self._same.append((record, turns[place]))
                start, unmatched = place + 1, []
        self._add_gap(unmatched, turns[start:])

    def _add_gap(self, old: Sequence[Record], new: Sequence[Turn]) -> None:
        """Pair the old and new passages between two unchanged ones."""
        pairs = list(zip(old, new, strict=False))
        self._replaced += pairs
        self._removed += old[len(pairs) :]
        self._new += new[len(pairs) :]

    def apply(self, dry_run: bool, progress: Progress | None) -> Ingested:
        """Write the difference; return the result."""
        moved = [(old, new) for old, new in self._same if old.turn.metadata != new.metadata]
        total = len(self._new) + len(self._replaced) + len(self._removed) + len(moved)

        def report(done: int) -> None:
            if progress:
                progress(done, total)

        if not dry_run:
            self._memory.add_many(self._new, progress=lambda done, _: report(done))
            done = len(self._new)
            for old, new in self._replaced:
                self._replace(old, new)
                report(done := done + 1)
            for old, new in moved:
                try:
                    self._memory.annotate(old.id, new.metadata)
                except SharedTurns:  # a fork shares the turn, so add a new one
                    self._replace(old, new)
                report(done := done + 1)
            for old in self._removed:
                self._memory.delete(old.id)
                report(done := done + 1)
        return Ingested(
            self._name,
            added=len(self._new),
            replaced=len(self._replaced),
            deleted=len(self._removed),
            moved=len(moved),
            unchanged=len(self._same) - len(moved),
        )

    def _replace(self, old: Record, new: Turn) -> None:
        self._memory.add(
            new.user,
            speaker=new.speaker,
            session=new.session,
            time=new.time,
            metadata=new.metadata,
            source=new.source,
            supersedes=old.id,
        )


def _in_document_order(
    stored: Sequence[Record], turns: Sequence[Turn]
) -> list[tuple[Record, int | None]]:
    """Return the stored passages in the order of the document, with their places in it.

    Replacements are at the end of the log. Passages that the document still has get its order; the
    others, without a place, follow the passages that precede them in the log.
    """
    free: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for place, turn in enumerate(turns):
        free[turn.content].append(place)
    order: list[tuple[int, int, Record, int | None]] = []
    before = -1
    for number, record in enumerate(stored):
        places = free.get(record.turn.content)
        own = places.popleft() if places else None
        before = before if own is None else own
        order.append((before, number, record, own))
    order.sort(key=lambda entry: entry[:2])
    return [(record, place) for _, _, record, place in order]
