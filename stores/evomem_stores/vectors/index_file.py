"""One index file: a header, what FAISS makes of the vectors and their codes, and a digest over it.

A file is a copy of rows that the log has, so nothing in it is ever trusted: unless every byte and
every claim of the header fits, it is as good as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from evomem.state import Spec
from evomem_stores.database.connections import sync_folder
from evomem_stores.vectors.codes import Codes, faiss
from evomem_stores.vectors.shard import KEY, Shard

MAGIC = b"evomem index 3\n\x00"
DIGEST = 32


def dump(shard: Shard, memory: int, spec: Spec) -> bytes:
    """Return the bytes of an index file."""
    vectors = faiss.serialize_index(shard.index)
    header = json.dumps(
        {
            "memory": memory,
            "fingerprint": spec.fingerprint,
            "dim": spec.dim,
            "revision": shard.revision,
            "watermark": shard.watermark,
            "count": len(shard),
            "vectors": len(vectors),
            "learned": shard.codes.learned if shard.codes else 0,
        }
    ).encode()
    rows = [shard.seqs.astype("<i8"), shard.keys]
    parts = [MAGIC, len(header).to_bytes(4, "little"), header, *rows, vectors]
    if shard.codes:
        parts.append(faiss.serialize_index(shard.codes.index))
    digest = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return b"".join([*parts, digest.digest()])


def load(data: bytes, memory: int, spec: Spec) -> Shard:
    """Return the shard that a file holds; whether the log agrees is the caller's to ask.

    Raises:
        ValueError: The file is damaged, or is not of this memory and encoder; the message says how.
    """
    body, digest = memoryview(data)[:-DIGEST], data[-DIGEST:]
    fits = hashlib.blake2b(body, digest_size=DIGEST).digest() == digest
    if not data.startswith(MAGIC) or not fits:
        raise ValueError("is damaged: its digest does not fit")
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
    shard = Shard(spec.dim, header["revision"])
    count, learned = header["count"], header["learned"]
    seqs = np.frombuffer(body, "<i8", count, end).astype(np.int64)
    keys = np.frombuffer(body, KEY, count, end + seqs.nbytes)
    start = end + seqs.nbytes + keys.nbytes
    end = start + header["vectors"]
    index = faiss.deserialize_index(np.frombuffer(body, np.uint8, end - start, start))
    if not isinstance(index, faiss.IndexFlatIP) or (index.ntotal, index.d) != (count, spec.dim):
        raise ValueError("is damaged: it does not hold what its header says")
    shard.index, shard._seqs, shard._keys = index, seqs, keys
    shard._note(seqs)
    if shard.watermark != header["watermark"] or (np.diff(seqs) < 0).any():
        raise ValueError("is damaged: its seqs are out of order")
    if learned:
        codes = faiss.deserialize_index(np.frombuffer(body, np.uint8, offset=end))
        right = isinstance(codes, faiss.IndexPQFastScan) and codes.ntotal == count
        if not right or codes.d != spec.dim or not 0 < learned <= count:
            raise ValueError("is damaged: it does not hold the codes of its vectors")
        shard.codes = Codes(codes, learned)
    return shard


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all, readable by its owner alone. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing a file have left of it."""
    for path in folder.glob(".*.faiss.*.*"):
        try:
            os.kill(int(path.name.split(".")[-2]), 0)  # only asks whether there is such a process
        except ProcessLookupError:
            with suppress(OSError):  # a read-only file system
                path.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue  # it is there, or the file is not ours
