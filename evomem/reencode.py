"""Changes the encoder of a database: every memory is read again while it stays in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evomem.batching import shared
from evomem.checks import check_whole
from evomem.encoder import Encoder
from evomem.errors import HeadMoved
from evomem.plugins import load_encoder, store_opener
from evomem.reading import read_rows
from evomem.store import Generation

BATCH = 64  # turns per transaction


def reencode(
    location: str,
    encoder: str | Encoder,
    *,
    device: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> int:
    """Read every turn of a database with another encoder, then replace the old encoder.

    Until the swap, the database stays in use with the old encoder. Processes that have it open at the
    swap get an error, and have to open it again. If interrupted, the next call continues where this
    one stopped. The old readings are kept until `Database.drop_generations`.

    Args:
        location: As for `evomem.open`.
        encoder: As for `evomem.open`.
        device: The device on which the encoder runs.
        workers: How many memories are read at the same time; each is read in order.
        progress: Called as `progress(done, total)`.
        **options: For the store.

    Returns:
        The number of turns read; 0 if the database already has this encoder.

    Raises:
        NotFound: There is no database.
        QueryError: `workers` is not a whole number of at least 1.
    """
    check_whole(workers, "workers", least=1)
    opener = store_opener(location)
    store, index = opener(location, None, **options)
    try:
        store.check_writable()
        ready = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        if ready.spec.fingerprint == store.spec.fingerprint:
            return 0
        generation, reader = store.generation(ready.spec), shared(ready)
        count = 0
        with ThreadPoolExecutor(workers, thread_name_prefix="evomem-reencode") as pool:

            def read(memory: int) -> int:
                return read_memory(generation, reader, memory, progress)

            while not generation.adopt():
                for layer in generation.unread():
                    count += sum(pool.map(read, layer))
        return count
    finally:
        index.close()
        store.close()


def read_memory(
    generation: Generation,
    encoder: Encoder,
    memory: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Read a memory's turns to its end; return how many."""
    count = 0
    while True:
        try:
            state, turns = generation.next(memory, BATCH)
            if not turns:
                return count
            rows, _ = read_rows(encoder, state, turns)
            generation.add(memory, rows)
        except HeadMoved:  # turns were purged; `adopt` finds those that are unread
            return count
        count += len(rows)
        if progress:
            progress(*generation.progress())
