"""Converts between values and columns: the bytes of a row, and checks before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from evomem.errors import DatabaseDamaged, EncoderError, IntegrityError, StoreError
from evomem.records import Record, TimeAndSession, Turn, sealed_turn
from evomem.rows import Form, Rows, norms
from evomem.state import Dtype, Reading, Spec, Vectors
from evomem.store import Row, Trace
from evomem_stores.database.seals import SEALED_COLUMNS, Seals, changed_row
from evomem_stores.database.tables import Columns, row_number
from evomem_stores.words.terms import terms

RECORD_COLUMNS = (*SEALED_COLUMNS, "seal")
"""The columns of a `Record`, and its seal."""

READING_COLUMNS = ("memory", "seq", "key", "words", "chunk", "embedding", "latents", "checksum")
"""The columns that the checksum of an encoder's reading covers, and the checksum."""

TIME_COLUMNS = ("memory", "seq", "time", "session")
"""The columns that make a `TimeAndSession`."""

TRACE_COLUMNS = ("memory", "seq", "id", "chunk", "recalled")
"""The columns of a `Trace`."""

INT8 = b"\x08"  # the first byte of 8-bit embeddings
LENGTH_TOLERANCE = 1e-3  # permitted deviation of an embedding's length from 1

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return a time as whole microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """Return the UTC time of `micros`."""
    return _EPOCH + micros * _MICROSECOND


def pack(latents: Vectors, dtype: Dtype) -> bytes:
    """Return latents as stored, in the precision in which they were computed.

    Raises:
        EncoderError: Storing the latents in `dtype` would change them.
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
            f"latents are not exact in {dtype}, the precision in the encoder's spec: "
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
    """Return a turn's stored embeddings: the turn's, then those of its passages.

    In float32: the bytes of the vectors, an even number. In 8 bits: `INT8`, the scales, the numbers,
    and a zero byte if the number of bytes would be even otherwise.
    """
    return pack_rows(Rows.of(np.ascontiguousarray(reading.embeddings, "<f4"), form))


def pack_rows(rows: Rows) -> bytes:
    """Return a turn's stored embeddings; `pack_embeddings` describes the format."""
    if rows.scales is None:
        return rows.numbers.astype("<f4", copy=False).tobytes()
    packed = INT8 + rows.scales.astype("<f4").tobytes() + rows.numbers.tobytes()
    return packed if len(packed) % 2 else packed + b"\0"


def embedding_count(size: int, dim: int) -> int:
    """Return how many embeddings of D numbers `size` bytes hold."""
    return (size - 1) // (dim + 4) if size % 2 else size // (4 * dim)


def unpack_embeddings(data: bytes, dim: int) -> Rows:
    """Return a turn's stored embeddings, (1 + P, D); the result may be read-only.

    Raises:
        ValueError: There is no embedding, or there are additional bytes.
    """
    count = embedding_count(len(data), dim)
    if not count:
        raise ValueError("it has no embedding")
    if len(data) % 2 == 0:
        return Rows(np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, dim))
    start = 1 + 4 * count
    end = start + count * dim
    if data[:1] != INT8 or len(data) - end != 1 - end % 2:
        raise ValueError("its embedding is stored in a form that this version does not support")
    scales = np.frombuffer(data, "<f4", count, 1).astype(np.float32, copy=False)
    return Rows(np.frombuffer(data, np.int8, count * dim, start).reshape(-1, dim), scales)


def unpack_many(blobs: Sequence[bytes], dim: int) -> Rows:
    """Return the stored embeddings of turns with one embedding each; see `unpack_embeddings`.

    Raises:
        ValueError: A turn has several embeddings, or the turns differ in their form.
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
        if array.size and not np.isfinite(array).all():
            raise EncoderError(f"{where} {name} with NaN or infinity in it; nothing was written")
    if not has_possible_lengths(row.reading):
        lengths = ", ".join(f"{norm(vector):.6g}" for vector in row.reading.embeddings)
        raise EncoderError(
            f"{where} embeddings of length {lengths}; expected 1 for the turn's own, and at most 1 "
            "for those of its passages; nothing was written"
        )


def has_possible_lengths(reading: Reading) -> bool:
    """Return whether a turn's embedding has unit length, and its passages' at most unit length."""
    with np.errstate(invalid="ignore"):  # NaN, in a damaged row
        length, *passage_lengths = norms(reading.embeddings.astype(np.float64)).tolist()
    return abs(length - 1) <= LENGTH_TOLERANCE and all(
        other <= 1 + LENGTH_TOLERANCE for other in passage_lengths
    )


def norm(embedding: Vectors) -> float:
    """Return the length of a vector, computed in float64, where squares of float32 do not overflow."""
    with np.errstate(invalid="ignore"):  # NaN, in a damaged row
        return float(np.linalg.norm(embedding.astype(np.float64)))


def encode(
    memory: int, row: Row, chunk: int, spec: Spec, seals: Seals, form: Form
) -> tuple[Columns, list[str]]:
    """Return a row's columns, with embeddings in `form`, and its terms for lexical search."""
    turn = row.turn
    if not turn.id:
        raise StoreError(f"turn {row.seq} has no id: set one before storing it")
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
    """Decode named columns; see `record_of`."""
    return record_of([columns[name] for name in RECORD_COLUMNS], seals)


def record_of(row: Sequence[Any], seals: Seals | None) -> Record:
    """Decode a row whose first columns are `RECORD_COLUMNS`; without `seals`, its seal is not checked.

    A row with a valid seal was a valid turn when it was written; otherwise, `Turn` validates it.

    Raises:
        IntegrityError: The columns were changed since they were written.
        DatabaseDamaged: They do not hold a record.
    """
    columns = dict(zip(RECORD_COLUMNS, row, strict=False))
    try:
        if seals and seals.digest(b"row", row[: len(SEALED_COLUMNS)]) != columns["seal"]:
            raise changed_row(columns["memory"], columns["seq"])
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


def decode_time(memory: int, seq: int, time: int, session: str | None) -> TimeAndSession:
    """Decode the columns `TIME_COLUMNS`. Raises `DatabaseDamaged`."""
    try:
        return TimeAndSession(moment(time), session)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(memory, seq, error) from error


def decode_trace(columns: RowMapping) -> Trace:
    """Decode the columns `TRACE_COLUMNS`. Raises `DatabaseDamaged`."""
    try:
        recalled = _recalled(columns["recalled"])
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(columns["memory"], columns["seq"], error) from error
    return Trace(columns["seq"], columns["id"], columns["chunk"], recalled)


def _recalled(text: str | None) -> tuple[str, ...]:
    ids = [] if text is None else json.loads(text)
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"recalled is not a list of ids, but {text!r:.60}")
    return tuple(ids)


def decode_latents(columns: RowMapping, spec: Spec, seals: Seals) -> Vectors:
    """Return the latents in the columns `READING_COLUMNS`, (L, H) float32.

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
    """Decode all columns of a row. Raises as `decode_record` does."""
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
