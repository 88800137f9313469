"""The cost of a memory as it grows, with the encoder in the loop; next to plain RAG on the same vectors.

Plain RAG keeps texts in SQLite and vectors in a flat FAISS index in memory. It is measured for encoders
without memory, with the vectors that evomem's encoder computed, so that both pay the same for them.

CPU times are those of the measuring thread, without the one that draws the progress bar: set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import evomem
from benchmarks.cost.scale_corpus import Corpus, Question
from benchmarks.cost.scale_others import K
from evomem.encoder import BatchEncoder, Job
from evomem.memory_view import Mode
from evomem.records import Turn
from evomem.state import Reading, Spec, State, Vectors

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or a thread's CPU time would miss it

Figures = dict[str, Any]
BATCH = 1024  # turns per call of `add_many`
ROWS_PER_HIT = 4  # rows that plain RAG searches per hit if turns have several vectors
MODES: tuple[Mode, Mode] = ("evolvable", "hybrid")
BLOCK = 2**14  # turns whose vectors are in memory at once in an exact search


@dataclass
class Clock:
    """CPU seconds of the calling threads."""

    seconds: float = 0.0

    def __enter__(self) -> None:
        self._start = time.thread_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.thread_time() - self._start


class Recorded:
    """An encoder that measures its CPU time and writes the embeddings of turns to files."""

    def __init__(self, encoder: BatchEncoder, folder: Path) -> None:
        """Continue the files in `folder`, or create them."""
        self._encoder = encoder
        self._vectors, self._counts = folder / "vectors.bin", folder / "counts.bin"
        for path in (self._vectors, self._counts):
            path.touch()
        self.clock = Clock()
        self.counts: list[int] = np.fromfile(self._counts, np.int32).tolist()
        """The number of vectors of each turn."""
        self.queries: dict[str, Vectors] = {}
        """The last embedding of each query."""

    @property
    def spec(self) -> Spec:
        """See `Encoder.spec`."""
        return self._encoder.spec

    @property
    def batch_tokens(self) -> int:
        """See `BatchEncoder.batch_tokens`."""
        return self._encoder.batch_tokens

    @property
    def parallel(self) -> bool:
        """See `BatchEncoder.parallel`."""
        return self._encoder.parallel

    def measure(self, turn: Turn) -> int:
        """See `BatchEncoder.measure`."""
        return self._encoder.measure(turn)

    def count_tokens(self, text: str) -> int:
        """See `Encoder.count_tokens`."""
        return self._encoder.count_tokens(text)

    def read(self, state: State[Turn], turns: Sequence[Turn]) -> list[Reading]:
        """See `Encoder.read`."""
        return self.read_batch([(state, turns)])[0]

    def embed_queries(self, state: State[Turn], queries: Sequence[str]) -> Vectors:
        """See `Encoder.embed_queries`."""
        return self.embed_batch([(state, queries)])[0]

    def read_batch(self, jobs: Sequence[Job[Turn]]) -> list[list[Reading]]:
        """See `BatchEncoder.read_batch`."""
        with self.clock:
            readings = self._encoder.read_batch(jobs)
        with self._vectors.open("ab") as vectors, self._counts.open("ab") as counts:
            for reading in (reading for job in readings for reading in job):
                self.counts.append(len(reading.embeddings))
                counts.write(np.int32(len(reading.embeddings)).tobytes())
                vectors.write(reading.embeddings.astype(np.float32).tobytes())
        return readings

    def embed_batch(self, jobs: Sequence[Job[str]]) -> list[Vectors]:
        """See `BatchEncoder.embed_batch`."""
        with self.clock:
            vectors = self._encoder.embed_batch(jobs)
        for (_, queries), rows in zip(jobs, vectors, strict=True):
            self.queries.update(zip(queries, rows, strict=True))
        return vectors

    def cut(self, turns: int) -> None:
        """Keep the vectors of the first `turns` turns: later ones were read but not stored."""
        del self.counts[turns:]
        os.truncate(self._counts, 4 * turns)
        os.truncate(self._vectors, 4 * sum(self.counts) * self.spec.dim)

    def vectors(self, start: int, end: int) -> tuple[list[int], Vectors]:
        """Return the number of vectors of each turn from `start` to `end`, and the vectors."""
        first, last = sum(self.counts[:start]), sum(self.counts[:end])
        shape = (last - first, self.spec.dim)
        rows = np.fromfile(
            self._vectors, np.float32, shape[0] * shape[1], offset=4 * first * shape[1]
        )
        return self.counts[start:end], rows.reshape(shape)

    def nearest(self, queries: Sequence[str], turns: int) -> list[set[int]]:
        """Return the `K` turns nearest to each query that was embedded, by exact search."""
        vectors = np.stack([self.queries[query] for query in queries])
        best = np.zeros((len(queries), turns), np.float32)
        for start, end in _blocks(0, turns, BLOCK):
            counts, rows = self.vectors(start, end)
            firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            best[:, start:end] = np.maximum.reduceat(vectors @ rows.T, firsts, axis=1)
        top = np.argpartition(-best, min(K, turns) - 1, axis=1)[:, :K]
        return [set(row) for row in top.tolist()]


def grow(
    encoder: BatchEncoder, corpus: Corpus, sizes: Sequence[int], folder: Path, questions: int
) -> Iterator[Figures]:
    """Measure a memory, and then plain RAG, at growing numbers of turns; yield figures of each size.

    If the folder has the memory of an interrupted run, it is continued. Smaller sizes are not measured
    again; the figures of ingest are those of the turns that are added now.

    Args:
        encoder: The encoder.
        corpus: The texts and questions.
        sizes: Numbers of turns, ascending.
        folder: Where to create databases.
        questions: The number of questions at each size, at most.
    """
    recorded = Recorded(encoder, folder)
    asked = [corpus.questions(size, questions) for size in sizes]
    yield from _grow_memory(recorded, corpus, sizes, folder / "memory.db", asked)
    if not encoder.spec.latents:
        yield from _grow_plain(recorded, corpus, sizes, folder / "plain.db", asked)


def _grow_memory(
    encoder: Recorded,
    corpus: Corpus,
    sizes: Sequence[int],
    path: Path,
    asked: Sequence[Sequence[Question]],
) -> Iterator[Figures]:
    """Measure one memory that holds all turns."""
    base = start_peak()
    with evomem.open(path, encoder) as db:
        memory = db.memory("all")
        encoder.cut(len(memory))
        for size, questions in zip(sizes, asked, strict=True):
            start = len(memory)
            if start >= size:
                continue
            figures: Figures = {"system": "evomem", "encoder": encoder.spec.name, "turns": size}
            sample = list(corpus.texts(start, min(size, start + 100)))
            figures["tokens a turn"] = sum(map(encoder.count_tokens, sample)) / len(sample)
            encoder.clock.seconds, total = 0.0, 0.0
            for first, last in _blocks(start, size, BATCH):
                turns = [Turn(user=text) for text in corpus.texts(first, last)]
                begin = time.thread_time()
                memory.add_many(turns)
                total += time.thread_time() - begin
            figures |= _ingest_figures(size - start, total, encoder.clock.seconds)
            begin = time.thread_time()
            memory.search(questions[0].text, K, mode="evolvable")
            figures["first search, CPU s"] = time.thread_time() - begin
            figures["bytes a turn"] = _bytes_of(path) / size
            hits: dict[Mode, list[list[int]]] = {}
            for mode in MODES:
                encoder.clock.seconds = 0.0
                hits[mode], times = _search(
                    lambda text, mode=mode: [  # type: ignore[misc]
                        hit.seq - 1 for hit in memory.search(text, K, mode=mode)
                    ],
                    questions,
                )
                figures |= _latencies(f"{mode} search", times, encoder.clock.seconds)
            figures["peak memory, MB"] = peak() - base
            figures["searches of all rows"] = db.stats()["searches_of_all_rows"]
            exact = encoder.nearest([question.text for question in questions], size)
            shared = [
                best.intersection(row) for best, row in zip(exact, hits[MODES[0]], strict=True)
            ]
            figures["recall@10"] = sum(map(len, shared)) / sum(map(len, exact))
            for mode in MODES:
                figures[f"{mode}, answers in the first 10"] = _answered(hits[mode], questions)
            yield figures
            start_peak()


def _grow_plain(
    encoder: Recorded,
    corpus: Corpus,
    sizes: Sequence[int],
    path: Path,
    asked: Sequence[Sequence[Question]],
) -> Iterator[Figures]:
    """Measure a flat FAISS index of the recorded vectors, with the texts in SQLite."""
    base = start_peak()
    index = import_module("faiss").IndexFlatIP(encoder.spec.dim)
    owners: list[int] = []  # the turn of each vector
    nothing: State[Turn] = State.empty(encoder.spec)
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE turns (number INTEGER PRIMARY KEY, text TEXT)")

    def search(text: str) -> list[int]:
        [query] = encoder.embed_queries(nothing, [text])
        rows = K if index.ntotal == owners[-1] + 1 else ROWS_PER_HIT * K
        places = index.search(query[None], min(rows, index.ntotal))[1][0]
        turns = list(dict.fromkeys(owners[place] for place in places))[:K]
        marks = ", ".join("?" * len(turns))
        database.execute(f"SELECT text FROM turns WHERE number IN ({marks})", turns).fetchall()
        return turns

    for start, size, questions in zip([0, *sizes], sizes, asked, strict=False):
        figures: Figures = {"system": "plain RAG", "encoder": encoder.spec.name, "turns": size}
        total = 0.0
        for first, last in _blocks(start, size, BATCH):
            texts = list(enumerate(corpus.texts(first, last), first))
            counts, vectors = encoder.vectors(first, last)
            begin = time.thread_time()
            with database:
                database.executemany("INSERT INTO turns VALUES (?, ?)", texts)
            index.add(vectors)
            owners += np.repeat(np.arange(first, last), counts).tolist()
            total += time.thread_time() - begin
        figures["… of which not the encoder"] = 1000 * total / (size - start)
        figures["bytes a turn"] = (_bytes_of(path) + 4 * index.ntotal * index.d) / size
        encoder.clock.seconds = 0.0
        hits, times = _search(search, questions)
        figures |= _latencies("search", times, encoder.clock.seconds)
        figures["peak memory, MB"] = peak() - base
        figures["answers in the first 10"] = _answered(hits, questions)
        yield figures
        start_peak()
    database.close()


def fill_memories(
    encoder: BatchEncoder, corpus: Corpus, memories: int, turns: int, folder: Path, questions: int
) -> Figures:
    """Measure the same texts in many memories: ingest, and the first search of some of them.

    Args:
        encoder: The encoder.
        corpus: The texts and questions.
        memories: The number of memories.
        turns: Turns per memory.
        folder: Where to create the database.
        questions: The number of questions, at most; each is asked in the memory of its turn.
    """
    folder = folder / "memories"
    folder.mkdir()
    recorded, path = Recorded(encoder, folder), folder / "memories.db"
    figures: Figures = {"encoder": encoder.spec.name, "memories": memories, "turns each": turns}
    base = start_peak()
    with evomem.open(path, recorded) as db:
        total = 0.0
        for number in range(memories):
            texts = corpus.texts(number * turns, (number + 1) * turns)
            history = [Turn(user=text) for text in texts]
            begin = time.thread_time()
            db.memory("user", str(number)).add_many(history)
            total += time.thread_time() - begin
        figures |= _ingest_figures(memories * turns, total, recorded.clock.seconds)
        figures["peak memory, MB"] = peak() - base
    figures["bytes a turn"] = _bytes_of(path) / (memories * turns)
    base = start_peak()
    begin = time.thread_time()
    with evomem.open(path, recorded) as db:
        figures["open, CPU ms"] = 1000 * (time.thread_time() - begin)
        asked = corpus.questions(memories * turns, questions)
        for mode, part in zip(MODES, (asked[::2], asked[1::2]), strict=True):  # all are cold
            recorded.clock.seconds = 0.0
            places = iter([question.turn // turns for question in part])
            hits, times = _search(
                lambda text, mode=mode, places=places: [  # type: ignore[misc]
                    hit.seq - 1
                    for hit in db.memory("user", str(next(places))).search(text, K, mode=mode)
                ],
                part,
            )
            figures |= _latencies(f"cold {mode} search", times, recorded.clock.seconds)
            inside = [Question(text, turn % turns) for text, turn in part]
            figures[f"{mode}, answers in the first 10"] = _answered(hits, inside)
        figures["peak memory of searches, MB"] = peak() - base
    return figures


def _blocks(start: int, end: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, end)) for first in range(start, end, size)]


def _ingest_figures(turns: int, total: float, encoder: float) -> Figures:
    return {
        "ingest, CPU s per 1,000 turns": 1000 * total / turns,
        "… of which not the encoder": 1000 * (total - encoder) / turns,
    }


def _search(
    search: Callable[[str], list[int]], questions: Sequence[Question]
) -> tuple[list[list[int]], list[float]]:
    """Return the turns that each question finds, and the CPU milliseconds of each search."""
    hits, times = [], []
    for question in questions:
        begin = time.thread_time()
        hits.append(search(question.text))
        times.append(1000 * (time.thread_time() - begin))
    return hits, times


def _latencies(name: str, times: list[float], encoder: float) -> Figures:
    p50, p95 = np.percentile(times, [50, 95]).tolist()
    return {
        f"{name}, p50, CPU ms": p50,
        f"{name}, p95, CPU ms": p95,
        f"{name}, of which the encoder, CPU ms": 1000 * encoder / len(times),
    }


def _answered(hits: Sequence[Sequence[int]], questions: Sequence[Question]) -> float:
    """Return the share of questions whose turn is among the hits."""
    answered = [question.turn in row for question, row in zip(questions, hits, strict=True)]
    return sum(answered) / len(answered)


def _bytes_of(path: Path) -> int:
    """Return the bytes of a database with its log and its index files."""
    files = [*path.parent.glob(f"{path.name}*"), *path.parent.glob(f"{path.name}.index/*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def start_peak() -> float:
    """Return freed memory to the system, and reset the peak of resident memory; return it in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return peak()


def peak() -> float:
    """Return the peak of resident memory in MB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    [peak] = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 1024
