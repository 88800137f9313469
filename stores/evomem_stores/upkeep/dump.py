"""Exports a database in open formats: JSON lines for turns, safetensors for embeddings and latents.

    evomem.json          the format's version, the encoder, the memories, digests and seal
    <memory>.jsonl       a memory's own turns, one per line, in log order
    <memory>.safetensors embeddings (N, D), latents (N, L, H), and passages (P, D), in the same order;
                         a turn's line has its number of passages, for most turns 0

`evomem.json` has a digest of each file and of itself, and is also sealed if the database has an
integrity key. Loading verifies all of them, and writes in one transaction.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sqlalchemy import Connection, select

from evomem.checks import check_labels
from evomem.errors import (
    EvomemError,
    FingerprintMismatch,
    IntegrityError,
    NamespaceError,
    StoreError,
)
from evomem.records import Turn, as_utc
from evomem.state import Reading, Spec, digest
from evomem.store import Row, Span
from evomem_stores.database.connections import DECODE_ERRORS
from evomem_stores.database.seals import Seals, seals_of
from evomem_stores.database.tables import MAX_SEQ, column_names, memories, turns
from evomem_stores.log import forgotten, ledger, writing
from evomem_stores.log.lookup import read
from evomem_stores.log.namespaces import decode_namespace, encode_namespace
from evomem_stores.log.rows import decode_row
from evomem_stores.log.views import spans

FORMAT = 3  # 1 had only the digest chain, 2 had no passages
PROOFS = ("digest", "seal")
_ENTRY = ("memory", "parent", "parent_seq", "head")
TURN_FIELDS = ("id", "user", "assistant", "speaker", "session")


def export(connection: Connection, spec: Spec, folder: Path) -> int:
    """Write a database's turns to a new folder; return how many.

    Raises:
        StoreError: The folder exists already, or cannot be written.
    """
    count = 0
    entries: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    seals = seals_of(connection)
    try:
        folder.mkdir(mode=0o700)
        numbers = select(memories.c.memory).order_by(memories.c.memory)
        for number in connection.scalars(numbers).all():
            memory, gone = ledger.with_hidden(connection, number)
            own = read(connection, [Span(number, 1, MAX_SEQ)], column_names(turns))
            rows = [decode_row(row, spec, seals) for row in own]
            if len(rows) != memory.rows:
                raise IntegrityError(
                    f"memory {number} has {len(rows)} turns of its own, not {memory.rows}: run "
                    "verify, and restore the database from a backup"
                )
            entries.append(
                {
                    **{name: getattr(memory, name) for name in _ENTRY},
                    "namespace": decode_namespace(memory.namespace) if memory.named else None,
                    "deleted": [seq for seq, since in gone.items() if not since],
                    "replaced": [[seq, since] for seq, since in gone.items() if since],
                    "forgotten": forgotten.marks(connection, memory),
                    "turns": len(rows),
                }
            )
            lines = "".join(json.dumps(_line(row), ensure_ascii=False) + "\n" for row in rows)
            for ending, data in (
                ("jsonl", lines.encode()),
                ("safetensors", save_tensors(_tensors(rows, spec))),
            ):
                name = f"{number}.{ending}"
                _write(folder / name, data)
                files[name] = _digest(data)
            count += len(rows)
        about = {
            "format": FORMAT,
            "encoder": asdict(spec),
            "memories": entries,
            "database": seals.database,
            "key": seals.key_id,
            "files": files,
        }
        about["digest"] = _seal(about, None).hex()
        if seals.key_id:
            about["seal"] = _seal(about, seals).hex()
        _write(folder / "evomem.json", json.dumps(about, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}; choose a new folder") from error
    return count


def load(connection: Connection, spec: Spec, folder: Path, key: bytes | None = None) -> int:
    """Add an export's memories to a database; return their number of turns.

    Args:
        connection: To the database, inside a transaction.
        spec: Its encoder.
        folder: The export.
        key: The integrity key with which the export must be sealed; None for the database's own key,
            if the export is sealed with it.

    Warns:
        UserWarning: No key proves that the export is unchanged.

    Raises:
        FingerprintMismatch: The export was made with another encoder.
        NamespaceError: The database has one of the memories already.
        StoreError: The export is incomplete or was changed.
    """
    about = _about(folder)
    count = 0
    what = "evomem.json"
    try:
        _check_proofs(folder, about, seals_of(connection), key)
        if about["encoder"]["fingerprint"] != spec.fingerprint:
            raise FingerprintMismatch(
                f"{folder} was written by the encoder {about['encoder']['name']!r}, the database "
                f"by {spec.name!r}: load it into a new database, or re-encode the database first"
            )
        files = about["files"] if about["format"] > 1 else None
        numbers: dict[int | None, int | None] = {None: None}
        for entry in about["memories"]:
            what = f"memory {entry['memory']}"
            numbers[entry["memory"]], loaded = _load_memory(
                connection, spec, folder, entry, numbers, files
            )
            count += loaded
    except EvomemError:
        raise
    except (OSError, SafetensorError, RecursionError, *DECODE_ERRORS) as error:
        raise StoreError(f"{folder}: {what} cannot be read: {error}") from error
    return count


def _check_proofs(folder: Path, about: dict[str, Any], seals: Seals, key: bytes | None) -> None:
    """Raise `StoreError` if `evomem.json` was changed; warn if no key proves that it was not."""
    if key is not None:
        proof: Seals | None = Seals("", key)
    else:  # the database's own key, if the export was sealed with it
        proof = seals if seals.key_id and about.get("key") == seals.key_id else None
    if about["format"] == 1:
        reason = "was written by a version of evomem that did not seal exports"
    elif _seal(about, None).hex() != about["digest"]:
        raise StoreError(f"{folder} was changed since it was written: its digest does not match")
    elif proof is None and not (about["key"] or seals.key_id):
        return  # without keys, digests are all there is
    else:
        reason = f"is sealed with the key {about['key']}" if about["key"] else "is not sealed"
    if proof is not None:
        if about["format"] == 1 or _seal(about, proof).hex() != about.get("seal"):
            raise StoreError(
                f"{folder} is not sealed with the key {proof.key_id}, or was changed since: export "
                "it again"
            )
        return
    warnings.warn(
        f"{folder} {reason}: only digests, which anybody can compute, show that it is unchanged",
        stacklevel=5,
    )


def _load_memory(
    connection: Connection,
    spec: Spec,
    folder: Path,
    entry: dict[str, Any],
    numbers: dict[int | None, int | None],
    files: dict[str, str] | None,
) -> tuple[int, int]:
    name = None if entry["namespace"] is None else tuple(entry["namespace"])
    if name is not None:
        check_labels(name)
    encoded = None if name is None else encode_namespace(name)
    taken = select(memories.c.memory).where(memories.c.namespace == encoded)
    if name is not None and connection.scalar(taken) is not None:
        raise NamespaceError(f"the database already has a memory {'/'.join(name)!r}")
    number = writing.make_memory(
        connection, name or (secrets.token_hex(16),), numbers[entry["parent"]],
        entry["parent_seq"], entry["head"],
    )  # fmt: skip
    assert number is not None  # names were checked, and no one else writes
    seen = spans(connection, number, entry["parent_seq"])
    key = next(
        (row["key"] for row in read(connection, seen, ["key"], limit=1, newest_first=True)), b""
    )
    rows = list(_rows(folder, entry, spec, key, files))
    writing.check_rows(rows, spec, first=entry["parent_seq"] + 1, dense=False)
    if len(rows) != entry["turns"] or (rows and rows[-1].seq > entry["head"]):
        raise StoreError(
            f"{folder}: memory {entry['memory']} has {len(rows)} turns, not {entry['turns']}"
        )
    loaded = ledger.get(connection, number)
    if name is None:  # it was dropped, and only exists for its forks
        loaded.namespace = str(number)
    if rows:
        writing.insert_rows(connection, loaded, seen, rows, spec)
    gone = {int(seq): 0 for seq in entry["deleted"]}
    # exports of older versions have neither
    gone.update((int(seq), int(since)) for seq, since in entry.get("replaced", ()))
    marks = [(str(mark), bytes.fromhex(key).hex()) for mark, key in entry.get("forgotten", ())]
    writing.add_hidden(connection, loaded, gone)
    forgotten.add(connection, loaded, marks)
    ledger.put(connection, loaded)
    return number, len(rows)


def _line(row: Row) -> dict[str, Any]:
    turn = row.turn
    return {
        "seq": row.seq,
        **{name: getattr(turn, name) for name in TURN_FIELDS},
        "time": (turn.time or row.added).isoformat(),
        "added": row.added.isoformat(),
        "metadata": dict(turn.metadata),
        "source": turn.source,
        "recalled": list(turn.recalled),
        "opens_chunk": row.reading.opens_chunk,
        "passages": len(row.reading.passages),
        "key": row.key.hex(),
    }


def _read(folder: Path, name: str, files: dict[str, str] | None) -> bytes:
    """Return a file's bytes. Raises `StoreError` unless they match the digest in `files`."""
    data = (folder / name).read_bytes()
    if files is not None and files[name] != _digest(data):
        raise StoreError(f"{folder}: {name} was changed since it was written")
    return data


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _seal(about: dict[str, Any], seals: Seals | None) -> bytes:
    """Return the digest over `evomem.json`, keyed with the key of `seals` if given."""
    values = {name: value for name, value in about.items() if name not in PROOFS}
    return (seals or Seals("")).of("").digest(b"export", [values])


def _rows(
    folder: Path, entry: dict[str, Any], spec: Spec, key: bytes, files: dict[str, str] | None
) -> Iterator[Row]:
    number = int(entry["memory"])
    tensors = load_tensors(_read(folder, f"{number}.safetensors", files))
    text = _read(folder, f"{number}.jsonl", files).decode("utf-8")
    lines = text.removesuffix("\n").split("\n") if text else []  # texts may hold other line ends
    embeddings, latents = tensors["embeddings"], tensors["latents"].astype(np.float32)
    passages = tensors.get("passages", embeddings[:0])
    used = 0
    for place, written in enumerate(lines):
        line = json.loads(written)
        turn = Turn(
            **{name: line[name] for name in TURN_FIELDS},
            time=line["time"],
            metadata=line["metadata"],
            source=line.get("source"),  # absent in exports of older versions
            recalled=line.get("recalled", ()),
        )
        key = digest(key, turn)
        if key.hex() != line["key"]:
            raise StoreError(f"{folder}: turn {line['seq']} of memory {number} was changed")
        added = as_utc(line["added"])
        if added is None:
            raise StoreError(f"{folder}: turn {line['seq']} of memory {number} has no time")
        count = int(line.get("passages", 0))
        turn_passages, used = passages[used : used + count], used + count
        if len(turn_passages) != count:
            raise StoreError(f"{folder}: turn {line['seq']} of memory {number} lacks passages")
        reading = Reading(
            embeddings[place], latents[place], bool(line["opens_chunk"]), turn_passages
        )
        yield Row(int(line["seq"]), turn, added, reading, key)


def _tensors(rows: list[Row], spec: Spec) -> dict[str, Any]:
    embeddings = np.zeros((len(rows), spec.dim), np.float32)
    latents = np.zeros((len(rows), spec.latents, spec.width), np.float32)
    for place, row in enumerate(rows):
        embeddings[place], latents[place] = row.reading.embedding, row.reading.latents
    passages = [row.reading.passages for row in rows if len(row.reading.passages)]
    none = np.zeros((0, spec.dim), np.float32)
    return {
        "embeddings": embeddings,
        "latents": latents,
        "passages": np.concatenate([none, *passages]),
    }


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "evomem.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{folder} is not an evomem export: {error}") from error
    if not isinstance(about, dict) or about.get("format") not in range(1, FORMAT + 1):
        raise StoreError(
            f"{folder} is not an export that this version of evomem can read (formats 1 to {FORMAT})"
        )
    return about


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
