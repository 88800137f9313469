"""The first search after opening a database, in a process of its own: CPU time and peak memory.

    python -m benchmarks.cost.first_answer DATABASE QUERY.npy

torch is imported first, since encoders need it: the peak is that of a process with an encoder, less the
encoder's weights.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch  # noqa: F401

import evomem
from benchmarks.cost.scale_encoded import peak
from benchmarks.cost.scale_vectors import Stored

QUERY = "a question"


def main(argv: Sequence[str]) -> int:
    """Open a database with one memory, `one`, and search it for the vector in a file; print figures."""
    database, file = argv
    query = np.load(file)
    encoder = Stored(query[None], {QUERY: query})
    begin = time.process_time()
    with evomem.open(":memory:", encoder) as db:  # imports what a first database needs
        db.memory("one").add("a turn", id="0")
        db.memory("one").search(QUERY, mode="evolvable")
    imports, before = time.process_time() - begin, peak()
    begin = time.process_time()
    with evomem.open(database, encoder) as db:
        db.memory("one").search(QUERY, mode="evolvable")
        cpu = time.process_time() - begin
    figures = {"imports, CPU s": imports, "CPU s": cpu, "before, MB": before, "peak, MB": peak()}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
