"""An append-only file of results, one JSON object a line: what a killed run resumes from."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Log:
    """Results by id, on disk as soon as they are added.

    The first line says what the results belong to; its digest is part of the file's name, so a
    result is found again only where nothing that decides it has changed. A line that a killed run
    left half-written is cut off. Safe to add to from several threads.
    """

    def __init__(self, folder: Path | None, name: str, header: Mapping[str, Any]) -> None:
        """Open the log, and read what an earlier run left.

        Args:
            folder: Where it lies; None keeps the results in memory only.
            name: How the file is called, in plain words.
            header: Everything that decides the results, as JSON values.
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
        """Keep the result of `id`; it is in the file when this returns."""
        line = json.dumps({"id": id, "result": result}, separators=(",", ":"))
        with self._lock:
            self.results[id] = json.loads(line)["result"]  # as a resumed run would read it
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
