"""`Upkeep`: maintenance of a database; `Generation`: the readings of another encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evomem.records import Turn
from evomem.rows import Form
from evomem.state import Spec, State
from evomem.store.values import Row


class Upkeep(Protocol):
    """Work on a whole database."""

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes: memories, turns, bytes."""
        ...

    def verify(self, anchor: Mapping[str, Any] | None = None) -> list[str]:
        """Check the whole database; return one sentence for each fault.

        With `anchor`, the result of an earlier call of `anchor`: also whether the database
        continues that state.
        """
        ...

    @property
    def key_id(self) -> str:
        """The id of the database's integrity key (`evomem.integrity.key_id`); "" for none."""
        ...

    def anchor(self) -> dict[str, Any]:
        """Return a record that identifies this state of the database, as JSON values.

        Raises:
            IntegrityError: The database was edited.
        """
        ...

    def seal(self, key: bytes | None) -> int:
        """Seal everything with another integrity key; return the number of turns.

        Raises:
            IntegrityError: The database was edited, or is damaged; nothing was sealed.
        """
        ...

    def check_encoder(self) -> None:
        """Raise `IntegrityError` if the encoder's entry was edited, its name for example."""
        ...

    def repair(self) -> list[str]:
        """Repair what can be rebuilt from the log; return what was repaired."""
        ...

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """Return unused space to the file system; return the bytes before and after.

        Args:
            embeddings: Store all of them in this form first, and those of later turns.

        Raises:
            IntegrityError: An embedding or latents were edited; nothing was changed.
        """
        ...

    def backup(self, target: Path) -> None:
        """Copy the database as it is at this moment; others may write meanwhile."""
        ...

    def export(self, folder: Path) -> int:
        """Write everything to readable files in a new folder; return the number of turns."""
        ...

    def load(self, folder: Path, key: bytes | None = None) -> int:
        """Add the memories of an export, all or none; return the number of turns.

        The export must be sealed with the integrity key `key`, or with the database's own if that is
        None and the export names it.
        """
        ...

    def generation(self, spec: Spec) -> Generation:
        """Return the readings of another encoder so far, creating the generation if needed."""
        ...

    def drop_generations(self) -> list[str]:
        """Remove all readings except those in use; return the names of their encoders."""
        ...


class Generation(Protocol):
    """The log as another encoder reads it, beside the readings in use, until they swap places.

    Readings are kept when the process ends: the next one continues from there.
    """

    def progress(self) -> tuple[int, int]:
        """Return how many turns were read, and how many there are."""
        ...

    def unread(self) -> list[list[int]]:
        """Return the memories that have unread turns, in layers: forks after what they share."""
        ...

    def next(self, memory: int, limit: int) -> tuple[State[Turn], list[Row]]:
        """Return the state before a memory's first unread turns, and up to `limit` of these.

        Raises:
            HeadMoved: A turn before them is unread (again).
        """
        ...

    def add(self, memory: int, rows: Sequence[Row]) -> None:
        """Store readings. Raises `HeadMoved` if a turn was purged meanwhile."""
        ...

    def adopt(self) -> bool:
        """Swap the readings, in one transaction; False if there are unread turns (again).

        The old readings are kept as a generation. Processes that have the database open get
        `FingerprintMismatch`, which asks them to open it again.
        """
        ...
