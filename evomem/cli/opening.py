"""The database and the memory that a command is about."""

from __future__ import annotations

import os
from argparse import Namespace
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import evomem
from evomem.cli.screen import Screen
from evomem.database import Database
from evomem.errors import NotFound, QueryError
from evomem.memory import Memory


def open_database(args: Namespace, screen: Screen, *, create: bool = False) -> Database:
    """Open `args.db`; if it is made, say which encoder reads it."""
    encoder = evomem.load_encoder(args.encoder, device=args.device) if args.encoder else None
    try:
        return evomem.open(args.db, encoder, device=args.device, create=False)
    except NotFound as error:
        if not create:
            raise NotFound(
                f"there is no database {args.db}; evomem add and evomem import make one"
            ) from error
    db = evomem.open(args.db, encoder, device=args.device)
    order = "" if db.spec.capacity else ", which has no memory of order"
    chosen = "" if args.encoder else " (--encoder chooses another)"
    screen.note(f"made {args.db}; its encoder is {db.spec.name}{order}{chosen}")
    return db


def memory_of(db: Database, args: Namespace) -> Memory:
    """Return the memory that the arguments name."""
    return db.memory(*labels_of(args))


def labels_of(args: Namespace) -> tuple[str, ...]:
    """Return the labels of the memory that the arguments name."""
    return tuple(args.memory or ["default"])


def zone_of(args: Namespace) -> tzinfo:
    """Return the time zone that the arguments name, or the system's."""
    zone: tzinfo = args.timezone or _system_zone()
    return zone


def now_of(args: Namespace) -> datetime | None:
    """Return the moment that the arguments name; without a zone of its own it is in `zone_of`.

    Raises:
        QueryError: It is not ISO 8601.
    """
    if args.now is None:
        return None
    try:
        now = datetime.fromisoformat(args.now[:-1] + "+00:00" if args.now[-1:] == "Z" else args.now)
    except ValueError as error:
        raise QueryError(
            f"--now {args.now!r} is not ISO 8601; write it like 2024-03-05T14:30"
        ) from error
    return now if now.tzinfo else now.replace(tzinfo=zone_of(args))


def _system_zone() -> tzinfo:
    """Return the system's time zone; where it has no name, its present offset from UTC."""
    try:
        if name := os.environ.get("TZ", "").lstrip(":"):
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (KeyError, ValueError, OSError):
        offset = datetime.now().astimezone().tzinfo
        assert offset is not None
        return offset
