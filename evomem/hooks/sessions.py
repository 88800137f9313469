"""Imports the sessions that an agent keeps on disk: a single session, or all new ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from evomem import chats
from evomem.chats import Conversation
from evomem.errors import InputError
from evomem.hooks.agents import Agent
from evomem.importing import Imported
from evomem.memory import Memory

PROJECT = "project"
"""The metadata key of the folder in which the agent worked."""
HEAD_LINES = 200  # of a session, which are searched for its folder


def capture(memory: Memory, agent: Agent, path: Path) -> Imported:
    """Add the new turns of one session; a session without messages adds nothing.

    Leaves out turns that evomem's hooks and tools quoted (`evomem.quoting`), tool calls, and texts that
    the agent writes in the user's name (docs/reference/chats.md). An incomplete line, which the agent is
    still writing, is skipped and read by the next capture.
    """
    try:
        read = chats.read(path, format=agent.name, skip_bad=True)
    except InputError:
        return Imported()
    project = _project(path)
    conversations = [_of_project(conversation, project) for conversation in read.conversations]
    return memory.import_chats(replace(read, conversations=conversations), turn_source=agent.name)


def sweep(
    memory: Memory, agent: Agent, seen: Seen, *, progress: Callable[[int, int], None] | None = None
) -> Imported:
    """Add the new turns of all sessions on disk; unchanged files are not read."""
    done = Imported()
    files = list(agent.session_files())
    for number, path in enumerate(files, 1):
        mark = _mark(path)
        if mark is not None and seen.marks().get(str(path)) != mark:
            done += capture(memory, agent, path)
            seen.note(path, mark)
        if progress:
            progress(number, len(files))
    return done


def sizes(agent: Agent) -> tuple[int, int]:
    """Return the number of sessions on disk, and their total bytes."""
    marks = [mark for path in agent.session_files() if (mark := _mark(path))]
    return len(marks), sum(size for size, _ in marks)


class Seen:
    """A record of the sessions that sweeps have read, with size and time; losing it only costs time."""

    def __init__(self, folder: Path, database: str, memory: Sequence[str]) -> None:
        name = hashlib.blake2b(json.dumps([database, *memory]).encode(), digest_size=8).hexdigest()
        self._path = folder / f"swept-{name}.json"

    def marks(self) -> dict[str, list[int]]:
        """Return size and time of change of each session, in bytes and nanoseconds."""
        try:
            value = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def note(self, path: Path, mark: Sequence[int]) -> None:
        """Record that a session was read."""
        text = json.dumps({**self.marks(), str(path): list(mark)})
        temporary = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            temporary.write_text(text, "utf-8")
            os.replace(temporary, self._path)


def _mark(path: Path) -> list[int] | None:
    """Return a file's size in bytes and modification time in nanoseconds; None if it does not exist."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _project(path: Path) -> str | None:
    """Return the folder of a session, from its first lines."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for folder in _folders(islice(file, HEAD_LINES)):
                return folder
    except OSError:
        pass
    return None


def _folders(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        for place in (value, value.get("payload") if isinstance(value, dict) else None):
            folder = place.get("cwd") if isinstance(place, dict) else None
            if isinstance(folder, str) and folder:
                yield folder


def _of_project(conversation: Conversation, project: str | None) -> Conversation:
    if project is None:
        return conversation
    messages = [
        {**message, "metadata": {PROJECT: project, **(message["metadata"] or {})}}
        for message in conversation.messages
    ]
    return replace(conversation, messages=messages)
