"""The arguments of the commands for the upkeep of a database."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from evomem.rows import FORMS

Make = Callable[..., argparse.ArgumentParser]
"""Creates the parser of one command: its name, a summary, a sentence, and examples."""

_FORKS = "also in forks that hold such turns"


def source_label(text: str) -> str | None:
    """Return the source that an argument names; None for turns without one."""
    return text or None


def add_upkeep(commands: Any, make: Make) -> None:
    """Add the parsers."""
    parser = make(
        commands,
        "purge",
        "forget one turn for good",
        "Remove a turn, its text on disk and its influence on later turns, which are read again.",
        "  evomem purge turn-17\n  evomem purge turn-17 --forks --json",
    )
    parser.add_argument("id", metavar="ID", help="the turn, as evomem show --json names it")
    parser.add_argument("--forks", action="store_true", help=_FORKS)
    parser = make(
        commands,
        "expire",
        "forget old turns, a session or a source for good",
        "Purge every turn of a memory that meets all given conditions; evomem show lists the turns "
        "of a session or a source.",
        "  evomem expire --before 2024-01-01T00:00:00Z\n  evomem expire --session monday --forks\n"
        "  evomem expire --source web",
    )
    parser.add_argument("--before", metavar="TIME", help="turns said before this ISO 8601 time")
    parser.add_argument("--session", metavar="ID", help="turns of this session")
    parser.add_argument(
        "--source",
        metavar="LABEL",
        type=source_label,
        action="append",
        help='turns of this source; may be repeated; "" stands for turns without a source',
    )
    parser.add_argument("--forks", action="store_true", help=_FORKS)
    make(
        commands,
        "drop",
        "forget whole memories for good",
        "Remove the memory that --memory names, and every memory whose name begins with it.",
        "  evomem drop --memory acme --memory alice\n  evomem drop --memory acme",
    )
    parser = make(
        commands,
        "reencode",
        "change the encoder",
        "Read every turn again with the encoder that --encoder names, while the database is in use, "
        "then replace the old encoder.",
        "  evomem reencode --encoder mini\n  evomem reencode --drop-old",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=1, help="memories read at the same time"
    )
    parser.add_argument(
        "--drop-old",
        action="store_true",
        help="remove the readings of encoders that are not in use",
    )
    make(
        commands,
        "reread",
        "put a memory's turns in the order of time",
        "Read the turns of a memory again in the order in which they were said, for a memory to which "
        "earlier turns were added later. Their numbers change.",
        "  evomem reread\n  evomem reread --memory acme --memory alice",
    )
    parser = make(
        commands,
        "backup",
        "copy the database while it is in use",
        "Copy the current state of the database; others may write meanwhile.",
        "  evomem backup monday.db\n  evomem backup /backups/agent.db --db agent.db",
    )
    parser.add_argument("target", metavar="FILE", help="a path that does not exist yet")
    parser = make(
        commands,
        "restore",
        "create a database from a backup",
        "Check a backup, and copy it to the path of --db, which must not exist.",
        "  evomem restore monday.db\n  evomem restore /backups/agent.db --db agent.db",
    )
    parser.add_argument("backup", metavar="FILE", help="the copy that evomem backup wrote")
    parser = make(
        commands,
        "export",
        "write everything to readable files",
        "Write every memory as JSON lines and safetensors to a new folder; evomem import reads it.",
        "  evomem export dump\n  evomem export /backups/dump --db agent.db",
    )
    parser.add_argument("target", metavar="FOLDER", help="a folder that does not exist yet")
    parser = make(
        commands,
        "anchor",
        "record the state of the database for later verification",
        "Print a small sealed record of the database's state, without names or texts. Keep it where "
        "nobody with write access to the database can change it: with it, evomem verify detects "
        "turns cut off at the end, removed memories, and older copies of the whole database.",
        "  evomem anchor --to /elsewhere/agent.anchor\n"
        "  evomem anchor --to https://notary.example/agent\n  evomem anchor --json",
    )
    parser.add_argument(
        "--to",
        metavar="FILE-OR-URL",
        help="a file, which is replaced, or an http(s) URL, to which it is PUT (default: stdout)",
    )
    parser = make(
        commands,
        "compact",
        "return unused space to the disk",
        "Rewrite the database without the space that forgotten turns left.",
        "  evomem compact\n  evomem compact --embeddings int8\n"
        "  evomem compact --db agent.db --json",
    )
    parser.add_argument(
        "--embeddings",
        choices=FORMS,
        help="store all embeddings, present and future, as this type: int8 takes a quarter of the "
        "space of float32 and rounds them",
    )
    make(
        commands,
        "doctor",
        "check the installation and the database",
        "Check whether evomem has everything that it needs, and whether the database can be used.",
        "  evomem doctor\n  evomem doctor --db agent.db",
    )
