"""The size of a turn on disk for the shapes of each encoder, computed and measured.

    python -m benchmarks storage --postgres postgresql://user@host/db --out storage.json

The index's copy of the vectors is measured as well: FAISS's files next to SQLite, or pgvector's table on
the server. Texts are generated with natural word frequencies, and vectors are random, since sizes depend
only on shapes and lengths. On the server, a schema is created for each row of the table and dropped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

import numpy as np

from evomem._extras import require
from evomem.mini.config import MiniConfig
from evomem.plugins import store_opener
from evomem.records import Turn
from evomem.rows import FORMS, Form
from evomem.state import Reading, Spec, State
from evomem.store import Row

SHAPES = (
    Spec("static:all-MiniLM-L6-v2", "static", dim=384),
    Spec("mini", "mini", MiniConfig().dim, 1, MiniConfig().width, MiniConfig().turns),
    Spec("EvoEmbedding-0.8B", "0.8B", 1024, 16, 1024, 512, "bfloat16"),
    Spec("EvoEmbedding-2B", "2B", 1024, 16, 2048, 512, "bfloat16"),  # the base's width
    Spec("EvoEmbedding-4B", "4B", 1024, 16, 2560, 512, "bfloat16"),
)
USERS, TURNS_PER_USER = 10**6, 200  # of the last column
_names = count(1)


@dataclass
class Size:
    """One line of the table, in bytes per turn."""

    encoder: str
    database: str
    text: float
    computed: int
    measured: float
    copied: float
    """The index's copy of the vector."""


def computed(spec: Spec, form: Form) -> int:
    """Return the bytes of a turn's embedding and latents."""
    embedding = 4 * spec.dim if form == "float32" else spec.dim + 5
    return embedding + spec.latents * spec.width * (4 if spec.dtype == "float32" else 2)


def rows(spec: Spec, turns: int, words: int, state: State[Turn]) -> Iterator[Row]:
    """Yield rows of generated turns with random vectors."""
    rng = np.random.default_rng(0)
    vocabulary = [
        "".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(20_000)
    ]
    for seq in range(1, turns + 1):
        length = max(2, int(rng.poisson(words)))
        text = [vocabulary[min(rank, 20_000) - 1] for rank in rng.zipf(1.2, length)]
        half = length // 2
        turn = Turn(
            user=" ".join(text[:half]),
            assistant=" ".join(text[half:]),
            id=f"{rng.integers(2**63):032x}",
            time=datetime(2024, 1, 1, tzinfo=timezone.utc),
            session=f"session-{seq // 20}",
        )
        embedding = rng.standard_normal(spec.dim)
        latents = rng.standard_normal((spec.latents, spec.width)).astype(np.float32)
        if spec.dtype == "bfloat16":
            latents = (latents.view(np.uint32) & 0xFFFF0000).view(np.float32)
        reading = Reading((embedding / np.linalg.norm(embedding)).astype(np.float32), latents)
        state = state.after(turn, reading)
        yield Row(seq, turn, datetime.now(timezone.utc), reading, state.key)


def measure(
    location: str, spec: Spec, turns: int, words: int, form: Form
) -> tuple[float, float, float]:
    """Write a memory and search it; return the bytes per turn of text, row and indexed vector."""
    opener = store_opener(location)
    store, _ = opener(location, spec, embeddings=form)
    memory = store.make_memory(("someone",))
    store.close()  # empties SQLite's write-ahead log
    before = size(location)
    store, _ = opener(location, spec)
    new_rows = list(rows(spec, turns, words, State.empty(spec)))
    for start in range(0, turns, 64):
        store.append(store.view(memory), new_rows[start : start + 64])
    store.close()
    text = sum(len(row.turn.user) + len(row.turn.assistant) for row in new_rows)
    written = size(location)
    options = {"index": "pgvector"} if location.startswith("postgres") else {}
    store, index = opener(location, spec, **options)
    empty = size(location)
    view = store.view(memory)
    index.search(view, new_rows[0].reading.embedding, 1)
    index.close()
    store.close()
    copied = size(location) - empty
    return text / turns, (written - before) / turns, copied / turns


def size(location: str) -> int:
    """Return the bytes of a closed database and its index."""
    store, _ = store_opener(location)(location, None)
    stats = store.stats()
    store.close()
    return int(stats["bytes"] + stats["index_bytes"])


@contextmanager
def place(url: str | None) -> Iterator[str]:
    """Yield the location of a new database; remove it afterwards."""
    if url is None:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "a.db")
        return
    schema = f"storage_{next(_names)}"
    try:
        yield f"{url}{'&' if '?' in url else '?'}schema={schema}"
    finally:
        with require("psycopg", extra="postgres").connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def main(argv: Sequence[str]) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks storage", description=__doc__)
    parser.add_argument(
        "--turns",
        type=int,
        default=1100,
        help="turns per measurement; FAISS writes files from 1,024 on",
    )
    parser.add_argument("--words", type=int, default=60, help="average words per turn")
    parser.add_argument("--embeddings", choices=FORMS, default="int8", help="their stored format")
    parser.add_argument("--postgres", metavar="URL", help="also measure on this server")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    print(
        "encoder                  database    text  computed  measured    copied   GB/1M turns   TB/1M users"
    )
    lines = []
    for spec in SHAPES:
        for url in (None, options.postgres) if options.postgres else (None,):
            with place(url) as location:
                text, measured, copied = measure(
                    location, spec, options.turns, options.words, options.embeddings
                )
            database = "PostgreSQL" if url else "SQLite"
            expected = computed(spec, options.embeddings)
            line = Size(spec.name, database, text, expected, measured, copied)
            lines.append(line)
            print(
                f"{line.encoder:<24} {line.database:<10} {text:>5.0f} {line.computed:>9,} "
                f"{measured:>9,.0f} {copied:>9,.0f} {measured / 1000:>13.1f} "
                f"{measured * USERS * TURNS_PER_USER / 1e12:>13.1f}",
                flush=True,
            )
    print(f"bytes per turn; a user has {TURNS_PER_USER} turns of {options.words} words")
    if options.out:
        report = {
            "command": ["python", "-m", "benchmarks", "storage"],
            "turns": options.turns,
            "embeddings": options.embeddings,
            "words": options.words,
            "python": sys.version,
        }
        options.out.write_text(
            json.dumps({**report, "sizes": [asdict(line) for line in lines]}, indent=1)
        )
    return 0
