"""One index file: a header, what FAISS makes of the vectors, and a digest over all of it.

A file is a copy of rows that the log has, so nothing in it is ever trusted: unless every byte and
every claim of the header fits, it is as good as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from evomem.state import Spec
from evomem_stores.engine import sync_folder
from evomem_stores.shard import Shard, faiss

MAGIC = b"evomem index 1\n\x00"
DIGEST = 32


def dump(shard: Shard, memory: int, spec: Spec) -> bytes:
    """Return the bytes of an index file."""
    header = json.dumps(
        {
            "memory": memory,
            "fingerprint": spec.fingerprint,
            "dim": spec.dim,
            "revision": shard.revision,
            "watermark": shard.watermark,
            "key": (shard.key or b"").hex(),
            "count": len(shard),
        }
    ).encode()
    size = len(header).to_bytes(4, "little")
    seqs = shard.seqs.astype("<i8").tobytes()
    body: bytes = MAGIC + size + header + seqs + faiss.serialize_index(shard.index).tobytes()
    return body + hashlib.blake2b(body, digest_size=DIGEST).digest()


def load(data: bytes, memory: int, spec: Spec) -> Shard:
    """Return the shard that a file holds; whether the log agrees is the caller's to ask.

    Raises:
        ValueError: The file is damaged, or is not of this memory and encoder; the message says how.
    """
    body, digest = data[:-DIGEST], data[-DIGEST:]
    if not body.startswith(MAGIC) or hashlib.blake2b(body, digest_size=DIGEST).digest() != digest:
        raise ValueError("is damaged: its digest does not fit")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(body[start - 4 : start], "little")
    header: dict[str, Any] = json.loads(body[start:end])
    for name, value in (
        ("memory", memory),
        ("fingerprint", spec.fingerprint),
        ("dim", spec.dim),
    ):
        if header[name] != value:
            raise ValueError(f"is foreign: its {name} is {header[name]!r}, not {value!r}")
    shard = Shard(spec.dim, header["revision"], bytes.fromhex(header["key"]) or None)
    count = header["count"]
    seqs = np.frombuffer(body, "<i8", count, end).astype(np.int64)
    index = faiss.deserialize_index(np.frombuffer(body, np.uint8, offset=end + seqs.nbytes))
    if not isinstance(index, faiss.IndexFlatIP) or (index.ntotal, index.d) != (count, spec.dim):
        raise ValueError("is damaged: it does not hold what its header says")
    shard.index, shard._seqs = index, seqs
    if shard.watermark != header["watermark"] or (np.diff(seqs) <= 0).any():
        raise ValueError("is damaged: its seqs are out of order")
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
            path.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue  # it is there, or the file is not ours
