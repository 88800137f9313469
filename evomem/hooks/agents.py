"""The coding agents that are known: where their settings and sessions are, and what calls hooks.

Claude Code: https://code.claude.com/docs/en/hooks; Codex: https://developers.openai.com/codex/hooks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STARTS = "startup|clear|compact"
"""Of the starts of a session, those whose model has not seen what was said before."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event that hooks are called for."""

    timeout: int
    """Seconds after which the agent stops the hook."""
    matcher: str | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """A coding agent."""

    name: str
    """As `evomem hooks` takes it; also the shape of its sessions, and the source of their turns."""
    variable: str
    """The environment variable that names its folder."""
    folder: str
    """Its folder in the home directory."""
    file: str
    """The file in it that holds hooks: JSON, with a list of groups for each event under `hooks`."""
    sessions: tuple[str, ...]
    """Where its sessions are: patterns of JSONL files, in its folder."""
    events: dict[str, Event]

    @property
    def home(self) -> Path:
        """Its folder."""
        return Path(os.environ.get(self.variable) or f"~/{self.folder}").expanduser()

    @property
    def settings(self) -> Path:
        """The file that holds hooks."""
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
                "SessionEnd": Event(10),  # without it, Claude Code waits for 1.5 seconds
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
                "SessionEnd": Event(
                    3
                ),  # the most that Codex allows; older versions ignore the event
            },
        ),
    )
}
