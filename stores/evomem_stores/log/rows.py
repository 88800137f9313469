"""Conversion between values and columns: the bytes of a row, and checks before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from evomem.errors import DatabaseDamaged, EncoderError, IntegrityError, StoreError
from evomem.records import Record, Said, Turn, sealed_turn
from evomem.rows import Form, Rows
from evomem.state import Dtype, Reading, Spec, Vectors
from evomem.store import Row, Trace
from evomem_stores.database.seals import ROW, Seals
from evomem_stores.database.tables import Columns, row_number
from evomem_stores.words.terms import terms

TURN = (*ROW, "seal")
"""The columns that make a `Record`, and its seal."""

READING = ("memory", "seq", "key", "words", "chunk", "embedding", "latents", "checksum")
"""The columns that an encoder's reading of a turn is checked by."""

SAID = ("memory", "seq", "time", "session")
"""The columns that make a `Said`."""

TRACE = ("memory", "seq", "id", "chunk", "recalled")
"""The columns that make a `Trace`."""

INT8 = b"\x08"  # the first byte of embeddings in 8 bits
UNIT = 1e-3  # how far the length of an embedding may be from 1

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return a time as whole microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """Return the UTC time of `micros`."""
    return _EPOCH + micros * _MICROSECOND


def pack(latents: Vectors, dtype: Dtype) -> bytes:
    """Return latents as stored, in the precision they were computed in.

    Raises:
        EncoderError: That would change them.
    """
    latents = np.ascontiguousarray(latents, "<f4")
    if dtype == "float32":
        return latents.tobytes()
    if dtype == "float16":
        with np.errstate(over="ignore"):
            half = latents.astype("<f2")
        exact = bool((half.astype(np.float32) == latents).all())
        packed = half.tobytes()
    else:  # bfloat16 is the upper half of a float32
        bits = latents.view("<u4")
        exact = not (bits & 0xFFFF).any()
        packed = (bits >> 16).astype("<u2").tobytes()
    if not exact:
        raise EncoderError(
            f"latents do not fit into {dtype}, the precision that the encoder's spec names: "
            "storing them would change them"
        )
    return packed


def unpack(data: bytes, spec: Spec) -> Vectors:
    """Return a turn's stored latents, (L, H) float32."""
    if spec.dtype == "bfloat16":
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(data, "<f4" if spec.dtype == "float32" else "<f2")
    with np.errstate(invalid="ignore"):  # NaN, in a damaged row
        return values.astype(np.float32).reshape(spec.latents, spec.width)


def pack_embeddings(reading: Reading, form: Form) -> bytes:
    """Return the embeddings of a turn as stored: its own, then those of its passages.

    In float32 as they are, of an even number of bytes. In 8 bits `INT8`, the scales, the numbers,
    and a zero where the number of bytes would be even.
    """
    return pack_rows(Rows.of(np.ascontiguousarray(reading.embeddings, "<f4"), form))


def pack_rows(rows: Rows) -> bytes:
    """Return the embeddings of a turn as stored; see `pack_embeddings`."""
    if rows.scales is None:
        return rows.numbers.astype("<f4", copy=False).tobytes()
    packed = INT8 + rows.scales.astype("<f4").tobytes() + rows.numbers.tobytes()
    return packed if len(packed) % 2 else packed + b"\0"


def embedding_count(size: int, dim: int) -> int:
    """Return how many embeddings of D numbers are stored in `size` bytes."""
    return (size - 1) // (dim + 4) if size % 2 else size // (4 * dim)


def unpack_embeddings(data: bytes, dim: int) -> Rows:
    """Return the stored embeddings of a turn, 1 + P of D numbers; not to be written to.

    Raises:
        ValueError: There is none, or there are other bytes as well.
    """
    count = embedding_count(len(data), dim)
    if not count:
        raise ValueError("it has no embedding")
    if len(data) % 2 == 0:
        return Rows(np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, dim))
    start = 1 + 4 * count
    end = start + count * dim
    if data[:1] != INT8 or len(data) - end != 1 - end % 2:
        raise ValueError("its embedding is stored in a form that this version does not know")
    scales = np.frombuffer(data, "<f4", count, 1).astype(np.float32, copy=False)
    return Rows(np.frombuffer(data, np.int8, count * dim, start).reshape(-1, dim), scales)


def unpack_many(blobs: Sequence[bytes], dim: int) -> Rows:
    """Return the stored embeddings of turns that have one each, as `unpack_embeddings` does.

    Raises:
        ValueError: They have several, or differ in their form.
    """
    size = len(blobs[0])
    if embedding_count(size, dim) != 1 or set(map(len, blobs)) != {size}:
        raise ValueError("they differ")
    table = np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, size)
    if size % 2 == 0:
        return Rows(table.view("<f4").astype(np.float32, copy=False))
    if (table[:, 0] != INT8[0]).any() or (table[:, 5 + dim :]).any():
        raise ValueError("they differ")
    scales = np.ascontiguousarray(table[:, 1:5]).view("<f4")[:, 0].astype(np.float32)
    return Rows(np.ascontiguousarray(table[:, 5 : 5 + dim]).view(np.int8), scales)


def check(row: Row, spec: Spec) -> None:
    """Raise `EncoderError` unless the reading of a turn can be stored and searched."""
    embedding, latents = row.reading.embedding, row.reading.latents
    passages = row.reading.passages
    where = f"the encoder {spec.name!r} gave turn {row.seq} ({row.turn.text[:40]!r})"
    for name, array, shape in (
        ("an embedding", embedding, (spec.dim,)),
        ("passages", passages, (len(passages), spec.dim) if len(passages) else passages.shape),
        ("latents", latents, (spec.latents, spec.width)),
    ):
        if array.shape != shape or array.dtype != np.float32:
            raise EncoderError(
                f"{where} {name} of shape {array.shape} and type {array.dtype}, expected {shape} "
                "and float32; nothing was written"
            )
        if not np.isfinite(array).all():
            raise EncoderError(f"{where} {name} with NaN or infinity in it; nothing was written")
    if not has_possible_lengths(row.reading):
        lengths = ", ".join(f"{norm(vector):.6g}" for vector in row.reading.embeddings)
        raise EncoderError(
            f"{where} embeddings of length {lengths}; expected 1 for the turn's own, and at most 1 "
            "for those of its passages; nothing was written"
        )


def has_possible_lengths(reading: Reading) -> bool:
    """Return whether a turn's embedding has unit length, and those of its passages at most that."""
    own, *others = map(norm, reading.embeddings)
    return abs(own - 1) <= UNIT and all(other <= 1 + UNIT for other in others)


def norm(embedding: Vectors) -> float:
    """Return the length of a vector; in float64, where no square of a float32 overflows."""
    with np.errstate(invalid="ignore"):  # NaN, in a damaged row
        return float(np.linalg.norm(embedding.astype(np.float64)))


def encode(
    memory: int, row: Row, chunk: int, spec: Spec, seals: Seals, form: Form
) -> tuple[Columns, list[str]]:
    """Return a row's columns, its embeddings in a form, and the terms it is found by."""
    turn = row.turn
    if not turn.id:
        raise StoreError(f"turn {row.seq} has no id: give it one before it is stored")
    words = terms(searched(turn.speaker, turn.user, turn.assistant))
    columns: Columns = {
        "row": row_number(memory, row.seq),
        "memory": memory,
        "seq": row.seq,
        "id": turn.id,
        "chunk": chunk,
        "words": len(words),
        "time": micros(turn.time or row.added),
        "added": micros(row.added),
        "key": row.key,
        "session": turn.session,
        "speaker": turn.speaker,
        "user": turn.user,
        "assistant": turn.assistant,
        "metadata": json.dumps(dict(turn.metadata)),
        "embedding": pack_embeddings(row.reading, form),
        "latents": pack(row.reading.latents, spec.dtype),
        "source": turn.source,
        "recalled": json.dumps(turn.recalled) if turn.recalled else None,
    }
    columns["seal"] = seals.row(columns)
    columns["checksum"] = seals.reading(columns, spec.fingerprint)
    return columns, words


def searched(speaker: str | None, user: str, assistant: str) -> str:
    """Return the text for lexical search: the turn's text, and the speaker's name."""
    return "\n".join((speaker or "", user, assistant))


def decode_record(columns: Mapping[str, Any] | RowMapping, seals: Seals | None) -> Record:
    """Return the record that the columns `TURN` hold; without `seals`, its seal is not checked.

    What has its seal was a turn when it was written. Anything else has to become one.

    Raises:
        IntegrityError: They were changed since they were written.
        DatabaseDamaged: They hold none.
    """
    try:
        if seals:
            seals.check_row(columns)
        make: Callable[..., Turn] = sealed_turn if seals else Turn
        turn = make(
            user=columns["user"],
            assistant=columns["assistant"],
            speaker=columns["speaker"],
            id=columns["id"],
            time=moment(columns["time"]),
            session=columns["session"],
            metadata=json.loads(columns["metadata"]),
            source=columns["source"],
            recalled=_recalled(columns["recalled"]),
        )
        return Record(columns["seq"], turn, moment(columns["added"]))
    except (ValueError, TypeError, OverflowError) as error:
        raise damaged(columns["memory"], columns["seq"], error) from error


def decode_said(memory: int, seq: int, time: int, session: str | None) -> Said:
    """Decode the columns `SAID`. Raises `DatabaseDamaged`."""
    try:
        return Said(moment(time), session)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(memory, seq, error) from error


def decode_trace(columns: RowMapping) -> Trace:
    """Return the trace that the columns `TRACE` hold. Raises `DatabaseDamaged`."""
    try:
        recalled = _recalled(columns["recalled"])
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(columns["memory"], columns["seq"], error) from error
    return Trace(columns["seq"], columns["id"], columns["chunk"], recalled)


def _recalled(text: str | None) -> tuple[str, ...]:
    ids = [] if text is None else json.loads(text)
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"recalled is no list of ids, but {text!r:.60}")
    return tuple(ids)


def decode_latents(columns: RowMapping, spec: Spec, seals: Seals) -> Vectors:
    """Return the latents that the columns `READING` hold, (L, H) float32.

    Raises:
        IntegrityError: The encoder's results for the turn were changed.
        DatabaseDamaged: They hold none.
    """
    try:
        if seals.reading(columns, spec.fingerprint) != columns["checksum"]:
            raise IntegrityError(
                f"the encoder's results for turn {columns['seq']} of memory {columns['memory']} "
                "were changed: run verify, and restore the database from a backup"
            )
        return unpack(columns["latents"], spec)
    except (ValueError, TypeError) as error:
        raise damaged(columns["memory"], columns["seq"], error) from error


def decode_row(columns: RowMapping, spec: Spec, seals: Seals | None) -> Row:
    """Return the whole row. Raises as `decode_record` does."""
    record = decode_record(columns, seals)
    try:
        embeddings = unpack_embeddings(columns["embedding"], spec.dim)[:]
        reading = Reading(
            embeddings[0],
            unpack(columns["latents"], spec),
            columns["chunk"] == columns["seq"],
            embeddings[1:],
        )
    except (ValueError, TypeError) as error:
        raise damaged(columns["memory"], columns["seq"], error) from error
    return Row(record.seq, record.turn, record.added, reading, columns["key"])


def damaged(memory: int, seq: int, error: Exception) -> DatabaseDamaged:
    """Return the error for a turn that cannot be read."""
    return DatabaseDamaged(
        f"turn {seq} of memory {memory} cannot be read ({error}): "
        "run verify, and restore the database from a backup"
    )
