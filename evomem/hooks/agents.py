"""The supported coding agents: their settings, their sessions, and the events of their hooks.

Claude Code: https://code.claude.com/docs/en/hooks; Codex: https://developers.openai.com/codex/hooks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STARTS = "startup|clear|compact"
"""The kinds of session starts at which the model has not seen the earlier conversation."""


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of event for which hooks are called."""

    timeout: int
    """Seconds after which the agent stops the hook."""
    matcher: str | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """A coding agent."""

    name: str
    """The name for `evomem hooks`; also the shape of its sessions, and the source of their turns."""
    variable: str
    """The environment variable that names its folder."""
    folder: str
    """Its folder in the home directory."""
    file: str
    """The file with hooks in this folder: JSON, with a list of groups per event under `hooks`."""
    sessions: tuple[str, ...]
    """Glob patterns of its sessions (JSONL files) in this folder."""
    events: dict[str, Event]

    @property
    def home(self) -> Path:
        """Its folder."""
        return Path(os.environ.get(self.variable) or f"~/{self.folder}").expanduser()

    @property
    def settings(self) -> Path:
        """The file with hooks."""
        return self.home / self.file

    def session_files(self) -> Iterator[Path]:
        """Yield its sessions on disk, sorted by path."""
        for pattern in self.sessions:
            yield from sorted(path for path in self.home.glob(pattern) if path.is_file())


AGENTS = {
    agent.name: agent
    for agent in (
        Agent(
            name="claude-code",
            variable="CLAUDE_CONFIG_DIR",
            folder=".claude",
            file="settings.json",
            sessions=("projects/**/*.jsonl",),
            events={
                "SessionStart": Event(30, STARTS),
                "PreCompact": Event(10),
                "SessionEnd": Event(10),  # the default of Claude Code is 1.5 seconds
            },
        ),
        Agent(
            name="codex",
            variable="CODEX_HOME",
            folder=".codex",
            file="hooks.json",
            sessions=("sessions/**/rollout-*.jsonl", "archived_sessions/**/rollout-*.jsonl"),
            events={
                "SessionStart": Event(30, STARTS),
                "PreCompact": Event(10),
                "SessionEnd": Event(3),  # Codex's maximum; older versions ignore the event
            },
        ),
    )
}
