"""Index files: a header, rows of the log, their codes, and a digest.

A file only copies rows of the log, so it is not trusted: unless every byte and every claim of the
header is verified, the file counts as missing. It is mapped, not read: rows stay on disk until they
are compared.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from evomem.rows import FORMS, Rows
from evomem.state import Spec
from evomem_stores.database.connections import sync_folder
from evomem_stores.vectors.codes import Codes, faiss
from evomem_stores.vectors.shard import KEY_TYPE, Shard

MAGIC = b"evomem index 4\n\x00"
DIGEST = 32
ALIGNED = 16  # bytes: allows the use of float32 and int64 in the mapped file
Buffer = bytes | memoryview


def dump(shard: Shard, memory: int, spec: Spec) -> list[Buffer]:
    """Return the parts of an index file; adding rows to the shard does not change them."""
    filled = [part for part in shard.held.parts if len(part)]
    in_8_bits = bool(filled) and filled[0].scales is not None
    header = json.dumps(
        {
            "memory": memory,
            "fingerprint": spec.fingerprint,
            "dim": spec.dim,
            "revision": shard.revision,
            "watermark": shard.watermark,
            "count": len(shard),
            "form": FORMS[in_8_bits],
            "learned": shard.codes.learned if shard.codes else 0,
        }
    ).encode()
    header += b" " * (-(len(MAGIC) + 4 + len(header)) % ALIGNED)
    parts: list[Buffer] = [MAGIC, len(header).to_bytes(4, "little"), header]
    arrays = [shard.seqs.astype("<i8"), shard.keys]
    arrays += [part.scales.astype("<f4") for part in filled if part.scales is not None]
    kind = np.int8 if in_8_bits else "<f4"
    arrays += [part.numbers.astype(kind, copy=False) for part in filled]
    if shard.codes:
        arrays.append(faiss.serialize_index(shard.codes.index))
    parts += [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [*parts, digest.digest()]


def read(path: Path, memory: int, spec: Spec) -> Shard:
    """Map the file at `path`; see `load`. Also raises `OSError`."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # an empty file cannot be mapped
            raise ValueError("is damaged: it is empty")
        return load(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), memory, spec)


def load(data: bytes | mmap.mmap, memory: int, spec: Spec) -> Shard:
    """Return the shard in a file; the caller compares it with the log.

    Args:
        data: The content of the file. The shard refers to its rows in `data`.
        memory: The expected memory.
        spec: The expected encoder.

    Raises:
        ValueError: The file is damaged, or belongs to another memory or encoder.
    """
    body, digest = memoryview(data)[:-DIGEST], data[-DIGEST:]
    if body[: len(MAGIC)] != MAGIC or hashlib.sha256(body).digest() != digest:
        raise ValueError("is damaged: its digest does not match")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(body[start - 4 : start], "little")
    header: dict[str, Any] = json.loads(bytes(body[start:end]))
    for name, value in (
        ("memory", memory),
        ("fingerprint", spec.fingerprint),
        ("dim", spec.dim),
    ):
        if header[name] != value:
            raise ValueError(f"is foreign: its {name} is {header[name]!r}, not {value!r}")
    count, learned, dim = header["count"], header["learned"], spec.dim
    seqs = np.frombuffer(body, "<i8", count, end).astype(np.int64)
    keys = np.frombuffer(body, KEY_TYPE, count, end + seqs.nbytes)
    end += seqs.nbytes + keys.nbytes
    scales = None
    if header["form"] == "int8":
        scales = np.frombuffer(body, "<f4", count, end).astype(np.float32)
        end += scales.nbytes
    kind = np.dtype("<f4" if scales is None else np.int8)
    numbers = np.frombuffer(body, kind, count * dim, end).reshape(count, dim)
    end += numbers.nbytes
    if not learned and end != len(body):
        raise ValueError("is damaged: its content does not match its header")
    shard = Shard.mapped(Rows(numbers, scales), seqs, keys, dim, header["revision"])
    if shard.watermark != header["watermark"] or (np.diff(seqs) < 0).any():
        raise ValueError("is damaged: its seqs are out of order")
    if learned:
        codes = faiss.deserialize_index(np.frombuffer(body, np.uint8, offset=end))
        is_complete = isinstance(codes, faiss.IndexPQFastScan) and codes.ntotal == count
        if not is_complete or codes.d != spec.dim or not 0 < learned <= count:
            raise ValueError("is damaged: it does not hold the codes of its vectors")
        shard.codes = Codes(codes, learned)
    return shard


def write(path: Path, parts: Sequence[Buffer]) -> None:
    """Write a file completely or not at all, readable only by its owner. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove partial files of processes that were killed while writing."""
    for path in folder.glob(".*.faiss.*.*"):
        try:
            os.kill(
                int(path.name.split(".")[-2]), 0
            )  # signal 0 only tests whether the process exists
        except ProcessLookupError:
            with suppress(OSError):  # a read-only file system
                path.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue  # the process exists, or the file is not ours
