"""Importing: adds the new exchanges of conversations to a memory.

conversation ─► entries ─► match with stored turns ─► plan ─► one transaction per batch

A conversation is identified by its name, which is the session of its turns; a nameless one by its
message ids or its texts (`nameless`). It is matched (`matching`, `places`) with the turns that the
memory has of it (`threads`), and new turns are planned (`planning`) and written (`writing`):

- exchanges that the memory lacks are added at the end of the log;
- an exchange that was completed, regenerated or edited replaces the old one, which stays
  visible `at` earlier points;
- deleted turns stay deleted, and purged turns are not imported again unless requested.

If another process writes in the meantime, the pending conversations are matched again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from evomem.chats import Conversation
from evomem.importing.entries import check
from evomem.importing.result import Imported as Imported
from evomem.importing.writing import Import, Progress

if TYPE_CHECKING:
    from evomem.memory import Memory


def import_conversations(
    memory: Memory,
    conversations: Iterable[Conversation],
    *,
    include_forgotten: bool = False,
    dry_run: bool = False,
    turn_source: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Add the new exchanges of conversations to a memory.

    Args:
        memory: The memory.
        conversations: Can be iterated twice, as those of `evomem.chats.read`: they are checked
            before anything is written.
        include_forgotten: Whether to import purged turns again.
        dry_run: Whether to only report what would be written.
        turn_source: The source of the written turns, regardless of the messages.
        progress: Called from time to time.

    Raises:
        InputError: An exchange is not a valid turn; the error names its place. Nothing was written.
    """
    count = 0
    for conversation in conversations:
        count += 1
        check(conversation)
    engine, namespace = memory._engine, memory.namespace
    with nullcontext() if dry_run else engine.lock(namespace):
        run = Import(
            engine,
            namespace,
            only_one=count == 1,
            include_forgotten=include_forgotten,
            dry_run=dry_run,
            turn_source=turn_source,
            progress=progress,
        )
        for conversation in conversations:
            run.take(conversation)
        return run.finish()
