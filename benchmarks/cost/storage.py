"""What a turn takes on disk, for the shapes of each encoder: computed, and measured on databases.

python -m benchmarks storage --postgres postgresql://user@host/db --out storage.json

The copy of the vectors that searches make is measured too: index files of FAISS beside SQLite, the
table of pgvector on the server. Texts are made up (words drawn as natural language draws them), vectors are random: sizes depend on
shapes and lengths alone. On the server, a schema is made for each row of the table and dropped.
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
    Spec("mini", "mini", MiniConfig().dim, MiniConfig().latents, MiniConfig().width, 128),
    Spec("EvoEmbedding-0.8B", "0.8B", 1024, 16, 1024, 512, "bfloat16"),
    Spec(
        "EvoEmbedding-2B", "2B", 1024, 16, 2048, 512, "bfloat16"
    ),  # the base's width: not read here
    Spec("EvoEmbedding-4B", "4B", 1024, 16, 2560, 512, "bfloat16"),
)
USERS, TURNS = 10**6, 200  # for the last column
_names = count(1)


@dataclass
class Size:
    """One line of the table; bytes a turn."""

    encoder: str
    database: str
    text: float
    computed: int
    measured: float
    copied: float
    """By the index."""


def computed(spec: Spec, form: Form) -> int:
    """Return the bytes of a turn's embedding and latents."""
    embedding = 4 * spec.dim if form == "float32" else spec.dim + 5
    return embedding + spec.latents * spec.width * (4 if spec.dtype == "float32" else 2)


def rows(spec: Spec, turns: int, words: int, state: State[Turn]) -> Iterator[Row]:
    """Yield rows of made-up turns with random vectors."""
    rng = np.random.default_rng(0)
    vocabulary = [
        "".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(20_000)
    ]
    for seq in range(1, turns + 1):
        length = max(2, int(rng.poisson(words)))
        chosen = [vocabulary[min(place, 20_000) - 1] for place in rng.zipf(1.2, length)]
        half = length // 2
        turn = Turn(
            user=" ".join(chosen[:half]),
            assistant=" ".join(chosen[half:]),
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
    """Write a memory and search it; return the bytes of a turn's text, row and copied vector."""
    opener = store_opener(location)
    store, _ = opener(location, spec, embeddings=form)
    memory = store.make_memory(("someone",))
    store.close()  # which empties SQLite's write-ahead log
    before = size(location)
    store, _ = opener(location, spec)
    made = list(rows(spec, turns, words, State.empty(spec)))
    for start in range(0, turns, 64):
        store.append(store.view(memory), made[start : start + 64])
    store.close()
    text = sum(len(row.turn.user) + len(row.turn.assistant) for row in made)
    written = size(location)
    options = {"index": "pgvector"} if location.startswith("postgres") else {}
    store, index = opener(location, spec, **options)
    empty = size(location)
    view = store.view(memory)
    index.search(view, made[0].reading.embedding, 1)
    index.close()
    store.close()
    copied = size(location) - empty
    return text / turns, (written - before) / turns, copied / turns


def size(location: str) -> int:
    """Return the bytes of a database that nobody has open."""
    store, _ = store_opener(location)(location, None)
    stats = store.stats()
    store.close()
    return int(stats["bytes"] + stats["index_bytes"])


@contextmanager
def place(url: str | None) -> Iterator[str]:
    """Give the location of a new database, and remove it afterwards."""
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
        help="written for each measurement; from 1,024 on FAISS keeps files",
    )
    parser.add_argument("--words", type=int, default=60, help="of a turn, on average")
    parser.add_argument("--embeddings", choices=FORMS, default="int8", help="how they are stored")
    parser.add_argument("--postgres", metavar="URL", help="measure there as well")
    parser.add_argument("--out", type=Path, help="everything as JSON")
    given = parser.parse_args(argv)
    print(
        "encoder                  database    text  computed  measured    copied   GB/1M turns   TB/1M users"
    )
    measured = []
    for spec in SHAPES:
        for url in (None, given.postgres) if given.postgres else (None,):
            with place(url) as location:
                text, taken, copied = measure(
                    location, spec, given.turns, given.words, given.embeddings
                )
            database = "PostgreSQL" if url else "SQLite"
            line = Size(spec.name, database, text, computed(spec, given.embeddings), taken, copied)
            measured.append(line)
            print(
                f"{line.encoder:<24} {line.database:<10} {text:>5.0f} {line.computed:>9,} "
                f"{taken:>9,.0f} {copied:>9,.0f} {taken / 1000:>13.1f} {taken * USERS * TURNS / 1e12:>13.1f}",
                flush=True,
            )
    print(f"bytes a turn; a user has {TURNS} turns of {given.words} words")
    if given.out:
        report = {
            "command": ["python", "-m", "benchmarks", "storage"],
            "turns": given.turns,
            "embeddings": given.embeddings,
            "words": given.words,
            "python": sys.version,
        }
        given.out.write_text(
            json.dumps({**report, "sizes": [asdict(line) for line in measured]}, indent=1)
        )
    return 0
