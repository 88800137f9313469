"""Between values and columns: what a row holds, byte for byte, and what may not get into one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from evomem.errors import DatabaseDamaged, EncoderError, StoreError
from evomem.records import Record, Said, Turn
from evomem.state import Dtype, Reading, Spec, Vectors
from evomem.store import Row
from evomem_stores.lexical import terms
from evomem_stores.tables import Columns, column_names, row_number, turns

TURN = ("memory", "seq", "id", "time", "added", "session", "speaker", "user", "assistant", "metadata")  # fmt: skip
"""The columns that make a `Record`."""

SAID = ("memory", "seq", "time", "session")
"""The columns that make a `Said`."""

UNIT = 1e-3  # how far the length of an embedding may be from 1

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _DAY = _EPOCH.toordinal(), timedelta(days=1) // _MICROSECOND
_CHECKED = [name for name in column_names(turns) if name != "checksum"]


def micros(moment: datetime) -> int:
    """Return a time as whole microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """Return the time that `micros` stands for, in UTC."""
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


def unpack_embedding(data: bytes, spec: Spec) -> Vectors:
    """Return a stored embedding, (D,) float32."""
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(spec.dim)


def check(row: Row, spec: Spec) -> None:
    """Raise `EncoderError` unless what the encoder made of a turn can be stored and searched."""
    embedding, latents = row.reading.embedding, row.reading.latents
    where = f"the encoder {spec.name!r} gave turn {row.seq} ({row.turn.text[:40]!r})"
    for name, array, shape in (
        ("an embedding", embedding, (spec.dim,)),
        ("latents", latents, (spec.latents, spec.width)),
    ):
        if array.shape != shape or array.dtype != np.float32:
            raise EncoderError(
                f"{where} {name} of shape {array.shape} and type {array.dtype}, expected {shape} "
                "and float32; nothing was written"
            )
        if not np.isfinite(array).all():
            raise EncoderError(f"{where} {name} with NaN or infinity in it; nothing was written")
    if abs((length := norm(embedding)) - 1) > UNIT:
        raise EncoderError(
            f"{where} an embedding of length {length:.6g}, expected 1; nothing was written"
        )


def norm(embedding: Vectors) -> float:
    """Return the length of a vector; in float64, where no square of a float32 overflows."""
    with np.errstate(invalid="ignore"):  # NaN, in a damaged row
        return float(np.linalg.norm(embedding.astype(np.float64)))


def encode(memory: int, row: Row, chunk: int, spec: Spec) -> tuple[Columns, list[str]]:
    """Return a row's columns, and the terms it is found by."""
    turn = row.turn
    if not turn.id:
        raise StoreError(f"turn {row.seq} has no id: give it one before it is stored")
    found = terms(searched(turn.speaker, turn.user, turn.assistant))
    columns: Columns = {
        "row": row_number(memory, row.seq),
        "memory": memory,
        "seq": row.seq,
        "id": turn.id,
        "chunk": chunk,
        "words": len(found),
        "time": micros(turn.time or row.added),
        "added": micros(row.added),
        "key": row.key,
        "session": turn.session,
        "speaker": turn.speaker,
        "user": turn.user,
        "assistant": turn.assistant,
        "metadata": json.dumps(dict(turn.metadata)),
        "embedding": np.ascontiguousarray(row.reading.embedding, "<f4").tobytes(),
        "latents": pack(row.reading.latents, spec.dtype),
    }
    return {**columns, "checksum": checksum(columns)}, found


def searched(speaker: str | None, user: str, assistant: str) -> str:
    """Return the text that lexical search looks in: what was said, and the name of who said it."""
    return "\n".join((speaker or "", user, assistant))


def checksum(columns: Mapping[str, Any] | RowMapping) -> bytes:
    """Return 16 bytes that change with any column of a row."""
    digest = hashlib.blake2b(digest_size=16)
    for name in _CHECKED:
        value: object = columns[name]
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def decode_record(columns: RowMapping) -> Record:
    """Return the record that the columns `TURN` hold.

    Raises:
        DatabaseDamaged: They hold none.
    """
    try:
        turn = Turn(
            user=columns["user"],
            assistant=columns["assistant"],
            speaker=columns["speaker"],
            id=columns["id"],
            time=moment(columns["time"]),
            session=columns["session"],
            metadata=json.loads(columns["metadata"]),
        )
        return Record(columns["seq"], turn, moment(columns["added"]))
    except (ValueError, TypeError, OverflowError) as error:
        raise _damaged(columns["memory"], columns["seq"], error) from error


def decode_said(memory: int, seq: int, time: int, session: str | None) -> Said:
    """Return what the columns `SAID` hold. Raises `DatabaseDamaged`."""
    try:
        return Said(date.fromordinal(_FIRST + time // _DAY), session)
    except (TypeError, ValueError, OverflowError) as error:
        raise _damaged(memory, seq, error) from error


def decode_row(columns: RowMapping, spec: Spec) -> Row:
    """Return the whole row. Raises `DatabaseDamaged`."""
    record = decode_record(columns)
    try:
        reading = Reading(
            unpack_embedding(columns["embedding"], spec),
            unpack(columns["latents"], spec),
            columns["chunk"] == columns["seq"],
        )
    except (ValueError, TypeError) as error:
        raise _damaged(columns["memory"], columns["seq"], error) from error
    return Row(record.seq, record.turn, record.added, reading, columns["key"])


def decode_latents(columns: RowMapping, spec: Spec) -> Vectors:
    """Return a turn's latents, (L, H) float32. Raises `DatabaseDamaged`."""
    try:
        return unpack(columns["latents"], spec)
    except (ValueError, TypeError) as error:
        raise _damaged(columns["memory"], columns["seq"], error) from error


def _damaged(memory: int, seq: int, error: Exception) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"turn {seq} of memory {memory} cannot be read ({error}): "
        "run verify, and restore the database from a backup"
    )
