"""A database as open files: JSON lines for what was said, safetensors for what was made of it.

    evomem.json          the format's version, the encoder, and the memories
    <memory>.jsonl       a memory's own turns, one a line, in log order
    <memory>.safetensors embeddings (N, D) and latents (N, L, H), in the same order

Loading writes everything in one transaction, after the digest of every turn was computed again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sqlalchemy import Connection, insert, select, update

from evomem.errors import EvomemError, FingerprintMismatch, NamespaceError, StoreError
from evomem.records import Turn, as_utc
from evomem.state import Reading, Spec, digest
from evomem.store import Row, Span
from evomem_stores import forgotten as tombstones
from evomem_stores import writing
from evomem_stores.lineage import decode_namespace, encode_namespace, read, spans
from evomem_stores.rows import decode_row
from evomem_stores.tables import LAST, column_names, forgotten, hidden, memories, turns

FORMAT = 1
FIELDS = ("id", "user", "assistant", "speaker", "session")


def export(connection: Connection, spec: Spec, folder: Path) -> int:
    """Write a database's turns to a new folder; return how many.

    Raises:
        StoreError: The folder is there already, or cannot be written.
    """
    count = 0
    entries = []
    try:
        folder.mkdir(mode=0o700)
        for memory in connection.execute(select(memories).order_by(memories.c.memory)).mappings():
            number = memory["memory"]
            own = read(connection, [Span(number, 1, LAST)], column_names(turns))
            rows = [decode_row(row, spec) for row in own]
            gone = select(hidden).where(hidden.c.memory == number).order_by(hidden.c.seq)
            out = {row.seq: row.since for row in connection.execute(gone)}
            marks = select(forgotten).where(forgotten.c.memory == number)
            marks = marks.order_by(forgotten.c.mark)
            named = memory["namespace"].startswith("[")
            entries.append(
                {
                    **{name: memory[name] for name in ("memory", "parent", "parent_seq", "head")},
                    "namespace": decode_namespace(memory["namespace"]) if named else None,
                    "deleted": [seq for seq, since in out.items() if not since],
                    "replaced": [[seq, since] for seq, since in out.items() if since],
                    "forgotten": [[row.mark, row.key] for row in connection.execute(marks)],
                    "turns": len(rows),
                }
            )
            lines = "".join(json.dumps(_line(row), ensure_ascii=False) + "\n" for row in rows)
            _write(folder / f"{number}.jsonl", lines.encode())
            _write(folder / f"{number}.safetensors", save_tensors(_tensors(rows, spec)))
            count += len(rows)
        about = {"format": FORMAT, "encoder": asdict(spec), "memories": entries}
        _write(folder / "evomem.json", json.dumps(about, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error}; give a folder that is new"
        ) from error
    return count


def load(connection: Connection, spec: Spec, folder: Path) -> int:
    """Add a dump's memories to a database; return how many turns they have.

    Raises:
        FingerprintMismatch: The dump is of another encoder.
        NamespaceError: The database has one of the memories already.
        StoreError: The dump is incomplete or was changed.
    """
    about = _about(folder)
    if about["encoder"]["fingerprint"] != spec.fingerprint:
        raise FingerprintMismatch(
            f"{folder} was written by the encoder {about['encoder']['name']!r}, the database by "
            f"{spec.name!r}: load it into a new database, or re-encode that one first"
        )
    numbers: dict[int | None, int | None] = {None: None}
    count = 0
    for entry in about["memories"]:
        try:
            numbers[entry["memory"]], loaded = _load_memory(
                connection, spec, folder, entry, numbers
            )
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            if isinstance(error, EvomemError):
                raise
            raise StoreError(
                f"{folder}: memory {entry.get('memory')} cannot be read: {error}"
            ) from error
        count += loaded
    return count


def _load_memory(
    connection: Connection,
    spec: Spec,
    folder: Path,
    entry: dict[str, Any],
    numbers: dict[int | None, int | None],
) -> tuple[int, int]:
    name = None if entry["namespace"] is None else tuple(entry["namespace"])
    here = None if name is None else encode_namespace(name)
    taken = select(memories.c.memory).where(memories.c.namespace == here)
    if name is not None and connection.scalar(taken) is not None:
        raise NamespaceError(f"the database has a memory {'/'.join(name)!r} already")
    number = writing.make_memory(
        connection, name or (secrets.token_hex(16),), numbers[entry["parent"]],
        entry["parent_seq"], entry["head"],
    )  # fmt: skip
    assert number is not None  # names were looked at, and nobody else writes
    if name is None:  # it was dropped, and is there for its forks alone
        own = memories.c.memory == number
        connection.execute(update(memories).where(own).values(namespace=str(number)))
    seen = spans(connection, number, entry["parent_seq"])
    key = next(
        (row["key"] for row in read(connection, seen, ["key"], limit=1, newest_first=True)), b""
    )
    rows = list(_rows(folder, entry, spec, key))
    writing.check_rows(rows, spec, first=entry["parent_seq"] + 1, dense=False)
    if len(rows) != entry["turns"] or (rows and rows[-1].seq > entry["head"]):
        raise StoreError(
            f"{folder}: memory {entry['memory']} has {len(rows)} turns, not {entry['turns']}"
        )
    if rows:
        writing.insert_rows(connection, number, seen, rows, spec)
    out = [*((seq, 0) for seq in entry["deleted"]), *entry.get("replaced", ())]
    if out:
        gone = [{"memory": number, "seq": int(seq), "since": int(since)} for seq, since in out]
        connection.execute(insert(hidden), gone)
    marks = [(str(mark), bytes.fromhex(key).hex()) for mark, key in entry.get("forgotten", ())]
    tombstones.add(connection, number, marks)
    return number, len(rows)


def _line(row: Row) -> dict[str, Any]:
    turn = row.turn
    return {
        "seq": row.seq,
        **{name: getattr(turn, name) for name in FIELDS},
        "time": (turn.time or row.added).isoformat(),
        "added": row.added.isoformat(),
        "metadata": dict(turn.metadata),
        "opens_chunk": row.reading.opens_chunk,
        "key": row.key.hex(),
    }


def _rows(folder: Path, entry: dict[str, Any], spec: Spec, key: bytes) -> Iterator[Row]:
    number = int(entry["memory"])
    tensors = load_tensors((folder / f"{number}.safetensors").read_bytes())
    text = (folder / f"{number}.jsonl").read_bytes().decode("utf-8")
    lines = text.removesuffix("\n").split("\n") if text else []  # other line ends are in texts
    embeddings, latents = tensors["embeddings"], tensors["latents"].astype(np.float32)
    for place, each in enumerate(lines):
        line = json.loads(each)
        turn = Turn(
            **{name: line[name] for name in FIELDS}, time=line["time"], metadata=line["metadata"]
        )
        key = digest(key, turn)
        if key.hex() != line["key"]:
            raise StoreError(f"{folder}: turn {line['seq']} of memory {number} was changed")
        added = as_utc(line["added"])
        if added is None:
            raise StoreError(f"{folder}: turn {line['seq']} of memory {number} has no time")
        reading = Reading(embeddings[place], latents[place], bool(line["opens_chunk"]))
        yield Row(int(line["seq"]), turn, added, reading, key)


def _tensors(rows: list[Row], spec: Spec) -> dict[str, Any]:
    embeddings = np.zeros((len(rows), spec.dim), np.float32)
    latents = np.zeros((len(rows), spec.latents, spec.width), np.float32)
    for place, row in enumerate(rows):
        embeddings[place], latents[place] = row.reading.embedding, row.reading.latents
    return {"embeddings": embeddings, "latents": latents}


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "evomem.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder} is not a dump of evomem: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise StoreError(f"{folder} is not a dump that this evomem can read (format {FORMAT})")
    return about


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
