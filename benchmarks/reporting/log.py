"""An append-only file of results, one JSON object per line, from which an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Log:
    """Results by id, written to disk when they are added.

    The first line describes everything that the results depend on. Its digest is part of the file's name,
    so results are reused only if nothing that they depend on has changed. An incomplete last line of a
    killed run is removed. Adding results is thread-safe.
    """

    def __init__(self, folder: Path | None, name: str, header: Mapping[str, Any]) -> None:
        """Open the log, and read the results of earlier runs.

        Args:
            folder: The log's folder; None keeps the results in memory only.
            name: The readable part of the file's name.
            header: Everything that the results depend on, as JSON.
        """
        first = json.dumps(header, sort_keys=True)
        digest = hashlib.sha256(first.encode()).hexdigest()[:10]
        plain = re.sub(r"[^\w.@+-]+", "_", name)[-60:]
        self.name = f"{plain}-{digest}"
        self.path = folder / f"{self.name}.jsonl" if folder else None
        self.results: dict[str, Any] = {}
        self._lock = threading.Lock()
        if not self.path:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size = self._read() if self.path.exists() else 0
        with self.path.open("r+b" if size else "wb") as file:
            file.truncate(size)
            if not size:
                file.write(f"{first}\n".encode())

    def __contains__(self, id: str) -> bool:
        return id in self.results

    def add(self, id: str, result: Any) -> None:
        """Add the result of `id`; it is in the file when this returns."""
        line = json.dumps({"id": id, "result": result}, separators=(",", ":"))
        with self._lock:
            self.results[id] = json.loads(line)["result"]  # the same value that a resumed run reads
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")

    def _read(self) -> int:
        """Fill `results`; return the length of its complete lines."""
        assert self.path
        size = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            size += len(line)
            if number:
                entry = json.loads(line)
                self.results[entry["id"]] = entry["result"]
        return size
