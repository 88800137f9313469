"""The arguments of the commands that coding agents start: mcp and hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evomem.hooks.agents import AGENTS

AGENTS_FOLDER = "~/.evomem"
AGENTS_DB = f"{AGENTS_FOLDER}/evomem.db"
"""The default database of both commands, because agents start them in any folder."""
ACTIONS = ("install", "uninstall", "sweep", "run")


def add_mcp(commands: Any, make: Callable[..., Any]) -> None:
    """Add the command's parser."""
    parser = make(
        commands,
        "mcp",
        "serve a memory to a coding agent or a desktop assistant",
        "Serve one memory as tools of the Model Context Protocol on stdin and stdout, until stdin "
        "ends. A client starts this itself: docs/guides/mcp.md has the line for each of them.",
        "  evomem mcp\n"
        "  evomem mcp --db ~/notes/agent.db --memory acme --memory alice\n"
        "  evomem mcp --memory work --source desktop",
        db=AGENTS_DB,
    )
    parser.add_argument(
        "--source",
        metavar="LABEL",
        default="mcp",
        help="the source label of stored turns (default: mcp)",
    )


def add_hooks(commands: Any, make: Callable[..., Any]) -> None:
    """Add the command's parser."""
    parser = make(
        commands,
        "hooks",
        "remember what is said to a coding agent",
        "Let a coding agent call evomem: a session is captured before it is compacted and when it "
        "ends, sessions on disk are swept when one starts, and what was said last in a folder is "
        "recalled there. install and uninstall show what they would write, and ask. sweep imports "
        "what is new in the sessions on disk, or in FILE. The agent itself calls run.",
        "  evomem hooks install claude-code\n"
        "  evomem hooks install codex --yes --memory work\n"
        "  evomem hooks sweep claude-code\n"
        "  evomem hooks uninstall claude-code",
        db=AGENTS_DB,
    )
    parser.add_argument("action", metavar="ACTION", choices=ACTIONS, help=", ".join(ACTIONS))
    parser.add_argument("agent", metavar="AGENT", choices=list(AGENTS), help=", ".join(AGENTS))
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="for sweep: read these sessions only"
    )
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument(
        "--settings",
        metavar="PATH",
        help="the file that holds the hooks (default: the agent's own, such as "
        "~/.claude/settings.json or ~/.codex/hooks.json)",
    )
