"""Streamed uploads: turns as JSON lines, and chats as files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from evomem.client.calls import to_json
from evomem.errors import InputError
from evomem.records import Turn
from evomem.service.wire import turn_to_json

BATCH = 64  # turns per request, as many as per transaction
BATCH_BYTES = 1 << 20


def batches(turns: Sequence[Turn]) -> Iterator[bytes]:
    """Yield turns as JSON lines, in batches for one request each."""
    lines: list[bytes] = []
    size = 0
    for turn in turns:
        line = to_json(turn_to_json(turn))
        if lines and (len(lines) == BATCH or size + len(line) > BATCH_BYTES):
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"\n".join(lines)


@contextmanager
def upload(source: object, name: str | None) -> Iterator[tuple[bytes | Path, str | None]]:
    """Yield the upload for chats: a file or bytes unchanged, objects as JSON lines."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source), name
        return
    if isinstance(source, str | os.PathLike) and Path(source).expanduser().is_file():
        path = Path(source).expanduser()
        yield path, name or path.name
        return
    from evomem.chats import Chats, read

    chats = source if isinstance(source, Chats) else read(source, name=name)
    with tempfile.TemporaryDirectory(prefix="evomem-") as folder:
        path = Path(folder, "chats.jsonl")
        with path.open("wb") as file:
            for talk in chats.conversations:
                value = {"id": talk.id, "title": talk.title, "messages": list(talk.messages)}
                file.write(json.dumps(value, default=_iso).encode() + b"\n")
        yield path, name


def _iso(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise InputError(f"a message contains a value that is not JSON: {value!r:.60}")
