"""A process that writes to a memory until it has said enough, or is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from evomem.errors import HeadMoved
from evomem.store import Index, Store, View
from tests.stores.helpers import open_at, query, read_rows, turn


def write_turns(
    location: Path | str, memory: str, name: str, count: int, gate: Path | None
) -> None:
    """Append turns, now and then several at once; print the ids of each batch that is appended.

    With a `gate` it begins when that file is there, so that writers begin together.
    """
    store, index = open_at(location)
    index._min_new_rows = 8  # so that kills hit the writing of index files too
    number = store.make_memory((memory,))
    done = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while gate and not gate.exists():
        time.sleep(0.001)
    while done < count:
        size = min(1 + done % 4, count - done)
        batch = [
            turn(f"{name} says {n} of the cat {n % 7}", n, id=f"{name}-{n}")
            for n in range(done, done + size)
        ]
        while True:
            view = store.view(number)
            try:
                store.append(view, read_rows(store.state(view), view.seq + 1, batch))
                break
            except HeadMoved:
                continue
        sys.stdout.write(" ".join(str(record.id) for record in batch) + "\n")
        sys.stdout.flush()
        done += size
        look(store, index, store.view(number))
    index.close()
    store.close()


def look(store: Store, index: Index, view: View) -> None:
    index.search(view, query("the cat"), 3)
    store.lexical(view, "the cat")
