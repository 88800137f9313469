"""`Imported`: the result of an import, and the counts while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from evomem.records import Turn

SHOWN = 5  # new turns in `Imported.first`


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added, or would add."""

    new: int = 0
    """Turns that were added."""
    replaced: int = 0
    """How many of the new turns replaced earlier versions."""
    known: int = 0
    """Turns that the memory already had."""
    deleted: int = 0
    """Exchanges left out because their turns were deleted."""
    forgotten: int = 0
    """Exchanges left out because their turns were purged."""
    first: tuple[Turn, ...] = ()
    """The first new turns."""

    def __add__(self, other: Imported) -> Imported:
        """Return the sum of both results."""
        return Imported(
            self.new + other.new,
            self.replaced + other.replaced,
            self.known + other.known,
            self.deleted + other.deleted,
            self.forgotten + other.forgotten,
            (self.first + other.first)[:SHOWN],
        )


@dataclass(slots=True)
class Tally:
    """Counts of a running import; planning a conversation again counts nothing twice."""

    written: Imported = field(default_factory=Imported)
    own: set[int] = field(default_factory=set)
    """Seqs of the turns that this import wrote."""
    known: set[int] = field(default_factory=set)
    """Seqs of turns that the memory already had."""
    deleted: set[int] = field(default_factory=set)
    """Seqs of deleted turns."""
    forgotten: set[tuple[str, str]] = field(default_factory=set)
    """Sessions and questions of purged turns."""

    def result(self) -> Imported:
        """Return the result of the import."""
        return replace(
            self.written,
            known=len(self.known),
            deleted=len(self.deleted),
            forgotten=len(self.forgotten),
        )
