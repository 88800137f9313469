"""Importing: the new exchanges of conversations are added to a memory.

conversation ─► entries ─► match with stored turns ─► plan ─► one transaction a batch

A conversation is known by its name, which is the session of its turns; one without a name by its
message ids or its texts (`nameless`). What the memory holds of it (`threads`) is matched with it
(`matching`, `places`), and what is new is planned (`planning`) and written (`writing`):

- exchanges that the memory does not hold are added at the end of the log;
- an exchange that was completed, regenerated or edited replaces the old one, which stays
  visible `at` earlier points;
- deleted turns stay deleted, and purged turns are not imported again unless requested.

If another process writes meanwhile, the pending conversations are matched again.
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
    """Add to a memory what is new in conversations.

    Args:
        memory: Which one.
        conversations: Can be iterated twice, as those of `evomem.chats.read`: they are checked
            before anything is written.
        include_forgotten: Whether to import purged turns again.
        dry_run: Whether to write nothing, and only say what would be written.
        turn_source: The source of the turns that are written, whatever the messages say.
        progress: Called now and then.

    Raises:
        InputError: An exchange cannot be a turn; the message says where it is. Nothing was written.
    """
    amount = 0
    for conversation in conversations:
        amount += 1
        check(conversation)
    engine, namespace = memory._engine, memory.namespace
    with nullcontext() if dry_run else engine.lock(namespace):
        run = Import(
            engine,
            namespace,
            only_one=amount == 1,
            include_forgotten=include_forgotten,
            dry_run=dry_run,
            turn_source=turn_source,
            progress=progress,
        )
        for conversation in conversations:
            run.take(conversation)
        return run.finish()
