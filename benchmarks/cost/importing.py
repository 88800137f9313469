"""The cost of importing chats: memory, and turns per CPU second compared with the encoder alone.

    python -m benchmarks importing --chats beam_128k.jsonl.xz --megabytes 200 --encoder static:FOLDER

The chats are real ones, repeated with other names until the file has the wanted size. The encoder alone
reads the first of the same turns, 64 at a time, and stores nothing. Memory and the cost of a turn are
also reported for each tenth of the import.
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

import evomem
from benchmarks.cost.scale_corpus import COPIES, exchange, names_of, rename
from benchmarks.cost.scale_encoded import Figures, Recorded, peak, start_peak
from benchmarks.reporting.output import finish, positive, setting, table
from evomem import chats
from evomem.encoder import BatchEncoder
from evomem.memory import BATCH
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("importing", argv), "rows": [], "tenths": []}

    def run() -> None:
        encoder = cast(BatchEncoder, load_encoder(options.encoder))
        for megabytes in options.megabytes:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                file = write_chats(Path(folder) / "chats.jsonl", options.chats, megabytes)
                row, tenths = measure(encoder, file, options.alone)
            result["rows"].append(row)
            result["tenths"].append(tenths)
        rows = [
            [name, *(f"{row[name]:,.4g}" for row in result["rows"])] for name in result["rows"][0]
        ]
        print(table(["", *(f"{megabytes} MB" for megabytes in options.megabytes)], rows))

    return finish(result, options.out, run)


def write_chats(path: Path, sources: Sequence[Path], megabytes: int) -> Path:
    """Write conversations of files of streams, repeated with other names; return the path.

    Args:
        path: The file to write: a conversation per line.
        sources: The streams (`*.jsonl.xz`). The first speaker is the user, the others are the assistant.
        megabytes: The size at which to stop.
    """
    streams = []
    for source in sources:
        with lzma.open(source, "rt", encoding="utf-8") as lines:
            streams += [json.loads(line) for line in lines]
    names = names_of(turn["text"] for stream in streams for turn in stream["turns"])
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for line in _conversations(streams, names):
            written += file.write(line + "\n")
            if written >= 1e6 * megabytes:
                break
    return path


def _conversations(streams: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    """Yield conversations as lines of JSON, endlessly."""
    for copy in count():
        others = exchange(names, copy % COPIES)
        for stream in streams:
            user = stream["turns"][0]["speaker"]
            messages = [
                {
                    "role": "user" if turn["speaker"] == user else "assistant",
                    "content": rename(turn["text"], others),
                }
                for turn in stream["turns"]
            ]
            yield json.dumps({"id": f"{stream['id']}-{copy}", "messages": messages})


def measure(encoder: BatchEncoder, file: Path, alone: int) -> tuple[Figures, list[Figures]]:
    """Import a file into a new database, and read its first `alone` turns with the encoder alone.

    Returns the figures of the import, and of each tenth of it.
    """
    recorded = Recorded(encoder, file.parent)
    base = start_peak()
    begin = time.process_time()
    talks = chats.read(file)
    reading = time.process_time() - begin
    reading_peak = peak()
    start_peak()
    tenths = _Tenths(recorded, base)
    with evomem.open(file.with_name("chats.db"), recorded) as db:
        memory = db.memory("all")
        begin = time.process_time()
        turns = memory.import_chats(talks, progress=tenths.note).new
        importing = time.process_time() - begin
        importing_peak = peak()
        first = [record.turn for record in memory.history(limit=alone)]
    bare = _read_alone(encoder, first)
    total = (reading + importing) / turns
    figures = {
        "file, MB": file.stat().st_size / 1e6,
        "messages": talks.messages,
        "turns": turns,
        "reading the file, CPU s": reading,
        "importing, CPU s": importing,
        "… of which the encoder, CPU s": recorded.clock.seconds,
        "turns per CPU s": 1 / total,
        "turns per CPU s, encoder alone": 1 / bare,
        "share of the encoder's rate": bare / total,
        "peak memory while reading, MB": reading_peak - base,
        "peak memory while importing, MB": importing_peak - base,
    }
    return figures, tenths.rows


class _Tenths:
    """The cost of each tenth of an import, and the peak of memory so far."""

    def __init__(self, encoder: Recorded, base: float) -> None:
        self.rows: list[Figures] = []
        self._encoder, self._base = encoder, base
        self._complete = 0
        self._before = self._now()

    def note(self, done: int, messages: int) -> None:
        """Record a tenth, or several, when complete: `done` of so many messages are imported."""
        turns, seconds, encoder = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        if not turns or done * 10 // messages == self._complete:
            return
        self._complete = done * 10 // messages
        self.rows.append(
            {
                "turns so far": len(self._encoder.counts),
                "CPU ms per turn": 1000 * seconds / turns,
                "… of which the encoder": 1000 * encoder / turns,
                "peak memory so far, MB": peak() - self._base,
            }
        )
        print(json.dumps(self.rows[-1], ensure_ascii=False), flush=True)
        self._before = self._now()

    def _now(self) -> tuple[int, float, float]:
        """Return the turns read, CPU seconds, and those of the encoder."""
        return len(self._encoder.counts), time.process_time(), self._encoder.clock.seconds


def _read_alone(encoder: BatchEncoder, turns: Sequence[Turn]) -> float:
    """Return the CPU seconds per turn that the encoder alone takes to read a history."""
    state: State[Turn] = State.empty(encoder.spec)
    begin = time.process_time()
    for start in range(0, len(turns), BATCH):
        batch = turns[start : start + BATCH]
        for turn, reading in zip(batch, encoder.read(state, batch), strict=True):
            state = state.after(turn, reading)
    return (time.process_time() - begin) / len(turns)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks importing", description=__doc__)
    add = parser.add_argument
    add("--chats", type=Path, required=True, nargs="+", help="files of streams (*.jsonl.xz)")
    add("--megabytes", type=positive, nargs="+", default=[10, 200], help="sizes of the file")
    add("--encoder", default="mini")
    add("--alone", type=positive, default=2000, help="turns that the encoder reads alone")
    add("--folder", type=Path, help="where to create files")
    add("--out", type=Path, help="where to write the figures as JSON")
    return parser
