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
    """Maintenance of a whole database."""

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes: memories, turns, bytes."""
        ...

    def verify(self, anchor: Mapping[str, Any] | None = None) -> list[str]:
        """Check the whole database; return one sentence for each fault.

        With `anchor`, the result of an earlier call of `anchor`, also check that the database
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
        """Raise `IntegrityError` if the encoder's entry, such as its name, was edited."""
        ...

    def repair(self) -> list[str]:
        """Repair what can be rebuilt from the log; return what was repaired."""
        ...

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """Return unused space to the file system; return the bytes before and after.

        Args:
            embeddings: First store all embeddings, and those of later turns, in this form.

        Raises:
            IntegrityError: An embedding or latents were edited; nothing was changed.
        """
        ...

    def backup(self, target: Path) -> None:
        """Copy the database's current state, while others may write."""
        ...

    def export(self, folder: Path) -> int:
        """Write everything to readable files in a new folder; return the number of turns."""
        ...

    def load(self, folder: Path, key: bytes | None = None) -> int:
        """Add the memories of an export, atomically; return the number of turns.

        The export must be sealed with the integrity key `key`; if that is None, with the database's
        key if the export names it.
        """
        ...

    def generation(self, spec: Spec) -> Generation:
        """Return the readings of another encoder so far, creating the generation if needed."""
        ...

    def drop_generations(self) -> list[str]:
        """Remove the readings of other encoders than the current one; return their names."""
        ...


class Generation(Protocol):
    """The readings of another encoder, stored next to the current ones until they are swapped.

    Readings survive the end of the process; the next process continues from there.
    """

    def progress(self) -> tuple[int, int]:
        """Return the number of turns read, and the number of all turns."""
        ...

    def unread(self) -> list[list[int]]:
        """Return the memories with unread turns in layers, forks after their parents."""
        ...

    def next(self, memory: int, limit: int) -> tuple[State[Turn], list[Row]]:
        """Return the state before a memory's first unread turn, and up to `limit` unread turns.

        Raises:
            HeadMoved: An earlier turn is unread.
        """
        ...

    def add(self, memory: int, rows: Sequence[Row]) -> None:
        """Store readings. Raises `HeadMoved` if a turn was purged in the meantime."""
        ...

    def adopt(self) -> bool:
        """Swap the readings, in one transaction; return False if there are unread turns.

        The old readings are kept as a generation. Processes that have the database open get
        `FingerprintMismatch`, and have to open it again.
        """
        ...
