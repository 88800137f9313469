"""How far one machine scales: large memories, many memories, and alternative vector indices.

    python -m benchmarks scale --seeds seeds.npz --corpora FOLDER --out benchmarks/results/scale.json
    python -m benchmarks scale --seeds seeds.npz --part index large --index-device cuda   # on a GPU

    python -m benchmarks scale --part texts --encoder mini --corpora FOLDER --texts FOLDER

Stored vectors replace the encoder, so the figures cover the log, the index and everything between them
and `Memory`, and texts are generated; in the parts `texts` and `text-memories`, an encoder reads real
texts. Files are in the page cache throughout.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch

import evomem
from benchmarks.cost.scale_corpus import TOKENS, Corpus, write_corpus
from benchmarks.cost.scale_encoded import fill_memories, grow
from benchmarks.cost.scale_others import OTHERS, K, measure, percentiles
from benchmarks.cost.scale_vectors import Stored, Texts, grown, nearest, seeds
from benchmarks.reporting.output import positive, progress_bar, setting, table, write_json
from evomem.encoder import BatchEncoder
from evomem.memory_view import Mode
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.rows import Rows
from evomem.state import Vectors
from evomem.store import Span
from evomem_stores.vectors.device_copy import Device
from evomem_stores.vectors.shard import Shard

Figures = dict[str, Any]
Part = tuple[str, Callable[[], Iterable[Figures]]]
"""The name of a part, and the function that measures it."""
INDEX_SIZES = (50_000, 100_000, 200_000, 1_000_000)
LARGE_MEMORIES = ("200000x500", "1000000x40")  # turns x tokens per turn
MODES: tuple[Mode, ...] = ("evolvable", "lexical", "hybrid")
PARTS = ("index", "large", "small", "others")
TEXT_PARTS = ("texts", "text-memories")
TOKEN_STEPS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
SPARE_VECTORS = 2000  # for turns that are added during measurements
REPEATS = 300  # sequential adds, and searches of cold memories
CONCURRENT_SECONDS = 10  # duration of the measurement with several threads
BATCH = 8192  # turns per call of `add_many`


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    options = _options(argv)
    result: Figures = setting("scale", argv)
    if options.resume:
        result = {**json.loads(options.out.read_text("utf-8")), **result}
    with progress_bar() as bar, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        parts: list[Part] = []
        if set(PARTS).intersection(options.part):
            turns, questions = seeds(options.seeds, options.corpora)
            result["dim"] = turns.shape[1]
            parts += _vector_parts(options, turns, questions[: options.questions], Path(folder))
        if set(TEXT_PARTS).intersection(options.part):
            parts += _text_parts(options, Path(folder))
        if options.index_device:
            result["index_device"] = _device_name(options.index_device)
        for name, run in bar.track([part for part in parts if part[0] in options.part]):
            for figures in run():
                result.setdefault(name, []).append(figures)
                bar.console.print(f"\n{name}\n{_figures_table(figures)}", highlight=False)
                if options.out:  # write after each step, in case the run is interrupted
                    write_json(options.out, result)
    print(_page(result))
    return 0


def _vector_parts(
    options: argparse.Namespace, turns: Vectors, questions: Vectors, folder: Path
) -> list[Part]:
    """Return the parts in which stored vectors replace the encoder."""
    sizes = [
        (int(size.split("x")[0]), int(size.split("x")[1]))
        for size in options.memory or LARGE_MEMORIES
    ]
    needed = {
        "index": max(options.index or INDEX_SIZES),
        "large": max(size for size, _ in sizes),
        "small": options.each,
        "others": options.others,
    }
    largest = max(needed[part] for part in options.part if part in needed)
    vectors = grown(turns, largest + SPARE_VECTORS)
    others = vectors[: options.others]

    def other(name: str) -> Figures:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            return measure(name, others, questions, nearest(others, questions, K), Path(place))

    parts: list[tuple[str, Callable[[], Figures]]] = [
        *(
            ("index", partial(index, vectors[:size], questions, options.index_device))
            for size in options.index or INDEX_SIZES
        ),
        *(
            (
                "large",
                partial(
                    large,
                    folder / f"{size}.db",
                    vectors[: size + SPARE_VECTORS],
                    questions,
                    tokens,
                    options.index_device,
                ),
            )
            for size, tokens in sizes
        ),
        ("small", partial(small, folder / "small.db", vectors, options.memories, options.each)),
        *(("others", partial(other, name)) for name in OTHERS),
    ]
    return [(name, lambda run=run: [run()]) for name, run in parts]  # type: ignore[misc]


def _text_parts(options: argparse.Namespace, folder: Path) -> list[Part]:
    """Return the parts in which an encoder reads real texts."""
    sizes = [tokens // TOKENS for tokens in sorted(options.tokens or TOKEN_STEPS)]
    counts = {"texts": sizes[-1], "text-memories": options.memories * options.each}
    turns = max(counts[part] for part in options.part if part in counts)
    encoder = cast(BatchEncoder, load_encoder(options.encoder))

    def corpus() -> Corpus:
        return write_corpus(options.texts or folder / "texts", options.corpora, turns)

    def texts() -> Iterable[Figures]:
        return grow(encoder, corpus(), sizes, options.folder or folder, options.questions)

    def memories() -> Iterable[Figures]:
        counts = options.memories, options.each
        return [fill_memories(encoder, corpus(), *counts, folder, options.questions)]

    return [("texts", texts), ("text-memories", memories)]


def _page(result: Figures) -> str:
    """Return all figures as tables, one per part."""
    pages = []
    for part in (*PARTS, *TEXT_PARTS):
        rows = [row for row in result.get(part, ()) if "skipped" not in row]
        if rows:
            head = [part, *(str(next(iter(row.values()))) for row in rows)]
            names = list(dict.fromkeys(name for row in rows for name in list(row)[1:]))
            pages.append(
                table(head, [[name, *(_cell(row.get(name, "")) for row in rows)] for name in names])
            )
    skipped = [row for row in result.get("others", ()) if "skipped" in row]
    pages += [f"{row['system']} was skipped: {row['skipped']}" for row in skipped]
    return "\n\n".join(pages)


def index(vectors: Vectors, questions: Vectors, device: str | None = None) -> Figures:
    """Measure searches of the index alone: exact, by codes, and on a device if one is given."""
    shard = Shard(vectors.shape[1], 0)
    shard.add(np.arange(len(vectors)), Rows(vectors), [bytes(16)] * len(vectors))
    span = Span(0, 0, len(vectors))

    def search(place: str) -> set[int]:
        return {seq for seq, _ in shard.nearest(span, questions[int(place)], K)}

    places = [str(place) for place in range(len(questions))]
    exact = nearest(vectors, questions, K)

    def recall(count: int = len(questions)) -> float:
        hits = sum(len(exact[place] & search(places[place])) for place in range(count))
        return hits / (K * count)

    figures: Figures = {"turns": len(vectors)}
    sample = places[:30]
    wall, cpu = _times(search, sample)
    figures |= percentiles("exact", wall) | percentiles("exact, CPU:", cpu)
    figures["exact recall@10"] = recall(len(sample))
    start = time.process_time()
    shard.encode()
    figures["learning and writing codes, CPU s"] = time.process_time() - start
    assert shard.codes
    figures |= {"vectors, MB": vectors.nbytes / 1e6, "codes, MB": shard.codes.nbytes / 1e6}
    wall, cpu = _times(search, places)
    figures |= percentiles("codes", wall) | percentiles("codes, CPU:", cpu)
    figures["recall@10"] = recall()
    if device is None:
        return figures
    shard.codes, shard.device_copy = None, Device(device).empty_copy()
    start = time.perf_counter()
    shard.device_copy.follow(shard.held)
    figures["copying to the device, s"] = time.perf_counter() - start
    figures["on the device, MB"] = shard.device_copy.nbytes / 1e6
    wall, cpu = _times(search, places)
    figures |= percentiles("device", wall) | percentiles("device, CPU:", cpu)
    figures["device recall@10"] = recall()
    return figures


def large(
    path: Path, vectors: Vectors, questions: Vectors, tokens: int, device: str | None = None
) -> Figures:
    """Measure one memory of all vectors except the last `SPARE_VECTORS`, with `tokens` per turn."""
    count = len(vectors) - SPARE_VECTORS
    texts = Texts()
    query_vectors = {f"{texts.question()} {n}": question for n, question in enumerate(questions)}
    encoder = Stored(vectors, query_vectors)
    figures: Figures = {"turns": count, "tokens a turn": tokens}
    before = _resident()
    with evomem.open(str(path), encoder, index_device=device) as db:
        memory = db.memory("one")
        figures |= _fill(
            (memory.add_many, _turns(texts, tokens, start, min(start + BATCH, count)))
            for start in range(0, count, BATCH)
        )
        start, cpu = time.perf_counter(), time.process_time()
        memory.search(next(iter(query_vectors)), K, mode="evolvable")
        figures["first search, no index file, s"] = time.perf_counter() - start
        figures["… CPU s"] = time.process_time() - cpu
    figures["database, MB"] = path.stat().st_size / 1e6
    index_folder = path.with_name(path.name + ".index")
    files = list(index_folder.glob("*"))
    figures["index file, MB"] = sum(file.stat().st_size for file in files) / 1e6
    figures |= _first_answer("index file", path, questions[0])
    for file in files:
        file.unlink()
    figures |= _first_answer("no index file", path, questions[0])
    start = time.perf_counter()
    with evomem.open(str(path), encoder, index_device=device) as db:
        memory = db.memory("one")
        figures["open, ms"] = 1000 * (time.perf_counter() - start)
        start = time.perf_counter()
        memory.search(next(iter(query_vectors)), K, mode="evolvable")
        figures["first search, index file, s"] = time.perf_counter() - start
        gc.collect()
        figures["resident beyond the encoder, MB"] = _resident() - before
        hits: list[set[int]] = []
        wall, cpu_times = _times(
            lambda text: hits.append(
                {hit.seq - 1 for hit in memory.search(text, K, mode="evolvable")}
            ),
            list(query_vectors),
        )
        exact = nearest(vectors[:count], questions, K)
        exact_hits = sum(len(best & seqs) for best, seqs in zip(exact, hits, strict=True))
        figures["recall@10"] = exact_hits / (K * len(exact))
        figures |= percentiles("search", wall) | percentiles("search, CPU:", cpu_times)
        for mode in MODES[1:]:
            wall, cpu_times = _times(
                partial(memory.search, k=K, mode=mode), list(query_vectors)[:10]
            )
            figures |= {f"{mode} p50, ms": median(wall), f"{mode} p50, CPU ms": median(cpu_times)}
        added = [str(n) for n in range(count, count + REPEATS)]
        text = texts.text(tokens)
        wall, cpu_times = _times(lambda id: memory.add(text, id=id), added)
        figures |= percentiles("add", wall) | percentiles("add, CPU:", cpu_times)
        figures |= percentiles("fsync", _syncs(path.with_name("fsync")))
        figures |= _concurrently(
            memory, list(query_vectors), text, range(count + REPEATS, count + SPARE_VECTORS)
        )
    return figures


def _first_answer(name: str, path: Path, question: Vectors) -> Figures:
    """Measure the first search after opening, in a new process."""
    query = path.with_name("query.npy")
    np.save(query, question)
    command = [sys.executable, "-m", "benchmarks.cost.first_answer", str(path), str(query)]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {f"first answer, {name}: {label}": value for label, value in figures.items()}


def small(path: Path, vectors: Vectors, memories: int, turns: int) -> Figures:
    """Measure a database of many memories: writes, and the first search of some of them."""
    texts = Texts()
    question = texts.question()
    encoder = Stored(vectors, {question: vectors[0]})
    figures: Figures = {"memories": memories, "turns each": turns}
    with evomem.open(str(path), encoder, synchronous="NORMAL") as db:
        figures |= _fill(
            (db.memory("user", str(n)).add_many, _turns(texts, 40, 0, turns))
            for n in range(memories)
        )
    figures["database, MB"] = path.stat().st_size / 1e6
    start = time.perf_counter()
    with evomem.open(str(path), encoder) as db:
        figures["open, ms"] = 1000 * (time.perf_counter() - start)
        db.memory("user", "0").search(question, K)  # warm up Python and SQLAlchemy
        names = [str(n * memories // REPEATS) for n in range(1, REPEATS)]
        for first, mode in enumerate(MODES[::2]):

            def search(name: str, mode: Mode = mode) -> None:
                db.memory("user", name).search(question, K, mode=mode)

            wall, cpu = _times(search, names[first::2])
            figures |= percentiles(f"cold {mode}", wall) | percentiles(f"cold {mode}, CPU:", cpu)
        ids = [str(turns + n) for n in range(REPEATS)]
        wall, cpu = _times(
            lambda id: db.memory("user", str(int(id) % memories)).add("a new turn", id=id), ids
        )
        figures |= percentiles("add", wall) | percentiles("add, CPU:", cpu)
    return figures


def _turns(texts: Texts, tokens: int, start: int, end: int) -> list[Turn]:
    return [Turn(user=texts.text(tokens), id=str(n)) for n in range(start, end)]


def _fill(calls: Any) -> Figures:
    """Call every function with its turns; return turns per second of the calls alone."""
    count, wall, cpu = 0, 0.0, 0.0
    for call, turns in calls:
        start, cpu_start = time.perf_counter(), time.process_time()
        call(turns)
        wall += time.perf_counter() - start
        cpu += time.process_time() - cpu_start
        count += len(turns)
    return {"ingest, turns/s": count / wall, "ingest, turns/CPU s": count / cpu}


def _times(call: Callable[[str], Any], arguments: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return the wall times and the thread's CPU times of calls, in milliseconds."""
    wall, cpu = [], []
    for argument in arguments:
        start, cpu_start = time.perf_counter(), time.thread_time()
        call(argument)
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.thread_time() - cpu_start))
    return wall, cpu


def _concurrently(
    memory: evomem.Memory, queries: list[str], text: str, ids: range, *, readers: int = 4
) -> Figures:
    """Measure threads that search while this thread adds turns."""
    end = time.perf_counter() + CONCURRENT_SECONDS
    searches: list[float] = []
    adds: list[float] = []

    def search(first: int) -> None:
        place = first
        while time.perf_counter() < end:
            query = queries[place % len(queries)]
            searches.extend(
                _times(lambda text: memory.search(text, K, mode="evolvable"), [query])[0]
            )
            place += readers

    threads = [threading.Thread(target=search, args=(n,)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for id in map(str, ids):
        if time.perf_counter() > end:
            break
        adds += _times(lambda id: memory.add(text, id=id), [id])[0]
    for thread in threads:
        thread.join()
    return {
        "together: searches/s": len(searches) / CONCURRENT_SECONDS,
        "together: adds/s": len(adds) / CONCURRENT_SECONDS,
        **percentiles(f"together: search of {readers} threads", searches),
        **percentiles("together: add", adds),
    }


def _syncs(path: Path) -> list[float]:
    """Return the milliseconds of a hundred writes and syncs of a page to disk."""
    with path.open("wb") as file:

        def sync(_: str) -> None:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

        return _times(sync, [""] * 100)[0]


def _device_name(device: str) -> str:
    """Return the name of a device; for a GPU, its product name."""
    place = Device(device).place
    return torch.cuda.get_device_name(place) if place.type == "cuda" else device


def _resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _figures_table(figures: Figures) -> str:
    return table(["", "value"], [[name, _cell(value)] for name, value in figures.items()])


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    options.part = options.part or PARTS
    if set(PARTS).intersection(options.part) and not options.seeds:
        parser.error("--seeds is missing: a file of vectors, which is created from --corpora")
    if set(TEXT_PARTS).intersection(options.part) and not options.corpora:
        parser.error("--corpora is missing: a folder of streams (*.jsonl.xz)")
    if options.resume and not (options.folder and options.out and options.out.exists()):
        parser.error("--resume needs the --folder and --out of the interrupted run")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    add = parser.add_argument
    add(
        "--part",
        action="extend",
        nargs="+",
        choices=(*PARTS, *TEXT_PARTS),
        help=f"default: {' '.join(PARTS)}",
    )
    add("--seeds", type=Path, help="embedded texts (.npz) for these parts; created if missing")
    add("--corpora", type=Path, help="folder of streams (*.jsonl.xz): the source of all texts")
    add("--texts", type=Path, help="folder for turns made of them; created if missing")
    add("--encoder", default="static", help="of the parts texts and text-memories")
    add("--tokens", action="append", type=positive, help=f"of a memory; default: {TOKEN_STEPS}")
    add("--index", action="append", type=positive, help=f"vectors; default: {INDEX_SIZES}")
    add(
        "--memory",
        action="append",
        metavar="TURNSxTOKENS",
        help=f"default: {' '.join(LARGE_MEMORIES)}",
    )
    add("--memories", type=positive, default=100_000, help="small memories in one database")
    add("--each", type=positive, default=100, help="turns per small memory")
    add("--others", type=positive, default=1_000_000, help="vectors for the other systems")
    add("--index-device", help="also search the index on this device, such as cuda")
    add("--questions", type=positive, default=300)
    add("--folder", type=Path, help="where to create databases; the part texts keeps its own there")
    add(
        "--resume",
        action="store_true",
        help="continue the part texts in --folder, and add to --out",
    )
    add("--out", type=Path, help="where to write the figures as JSON")
    return parser
