"""The cost of LangGraph's items in `EvoMemStore`, compared with LangGraph's own `SqliteStore`.

    pip install langgraph-checkpoint-sqlite
    python -m benchmarks items --items 2000 --namespaces 300

The figures are CPU times per call, measured in one process with the stores in alternation (A B A B).
Both use the same embeddings, words hashed into a vector, so that the model costs next to nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, IndexConfig, PutOp

from benchmarks.reporting.output import setting, table, write_json
from evomem_integrations.langgraph import EvoMemStore

DIM = 128
OURS, THEIRS = "EvoMemStore", "SqliteStore"
CALLS_PER_ROUND = 5


class HashedWords(Embeddings):
    """Embeds texts by hashing each word to a dimension of the vector."""

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text, of length 1."""
        vector = [0.0] * DIM
        for word in text.lower().split():
            vector[hashlib.md5(word.encode()).digest()[0] % DIM] += 1.0
        length = sum(value * value for value in vector) ** 0.5 or 1.0
        return [value / length for value in vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        return [self.embed_query(text) for text in texts]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks items", description=__doc__)
    parser.add_argument("--items", type=int, default=2000, help="items in the large namespace")
    parser.add_argument("--namespaces", type=int, default=300, help="namespaces with one item each")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stores = _open(Path(folder), stack)
        for store in stores.values():
            _fill(store, options.items, options.namespaces)
        rows = _measure(stores, options.rounds)
    cells = [
        [name, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.1f}"]
        for name, (ours, theirs) in rows.items()
    ]
    print(table(["CPU ms of a call", OURS, THEIRS, "ratio"], cells))
    result = {**setting("items", argv), "figures": rows}
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def _open(folder: Path, stack: ExitStack) -> dict[str, BaseStore]:
    index: IndexConfig = {"dims": DIM, "embed": HashedWords(), "fields": ["text"]}
    base = importlib.import_module("langgraph.store.sqlite.base")
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        base.sqlite3 = importlib.import_module("pysqlite3")  # type: ignore[attr-defined]
    theirs = stack.enter_context(
        base.SqliteStore.from_conn_string(str(folder / "theirs.db"), index=dict(index))
    )
    theirs.setup()
    ours = EvoMemStore.from_conn_string(str(folder / "ours.db"), index=index)
    return {OURS: stack.enter_context(ours), THEIRS: theirs}


def _fill(store: BaseStore, items: int, namespaces: int) -> None:
    for start in range(0, items, 50):
        store.batch(
            [
                PutOp(("n",), f"k{n}", {"text": f"tea number {n}", "even": n % 2})
                for n in range(start, min(start + 50, items))
            ]
        )
    for n in range(namespaces):
        store.put(("users", f"u{n}"), "a", {"text": f"tea {n}"})


def _calls() -> dict[str, Callable[[BaseStore, int], Any]]:
    """Return the operations to measure, by name; each takes a store and a number."""

    def put_and_search(store: BaseStore, n: int) -> None:
        store.put(("n",), f"both{n}", {"text": f"water {n}"})
        store.search(("n",), query=f"tea number {n}", limit=5)

    return {
        "search": lambda store, n: store.search(("n",), query=f"tea number {n}", limit=5),
        "search with a filter": lambda store, n: store.search(
            ("n",), query=f"tea number {n}", limit=5, filter={"even": 1}
        ),
        "list a page of 100": lambda store, n: store.search(("n",), limit=100, offset=500),
        "search all namespaces": lambda store, n: store.search(
            ("users",), query=f"tea {n}", limit=5
        ),
        "list namespaces": lambda store, n: store.list_namespaces(limit=10),
        "get": lambda store, n: store.get(("n",), f"k{n}"),
        "put new": lambda store, n: store.put(("n",), f"new{n}", {"text": f"coffee {n}"}),
        "put replacing": lambda store, n: store.put(("n",), "k7", {"text": f"coffee {n}"}),
        "put new, then search": put_and_search,
    }


def _measure(stores: dict[str, BaseStore], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median CPU milliseconds per call of both stores, and those of the first searches."""
    rows: dict[str, tuple[float, float]] = {}
    numbers = itertools.count()
    for name, call in _calls().items():
        spent: dict[str, list[float]] = {OURS: [], THEIRS: []}
        for _ in range(rounds):
            for kind, store in stores.items():
                for _ in range(CALLS_PER_ROUND):
                    n = next(numbers)
                    begin = time.process_time()
                    call(store, n)
                    spent[kind].append(1000 * (time.process_time() - begin))
        if name in ("search", "search all namespaces"):
            rows[f"{name}: the first since it was opened"] = spent[OURS][0], spent[THEIRS][0]
        rows[name] = statistics.median(spent[OURS]), statistics.median(spent[THEIRS])
    return rows
