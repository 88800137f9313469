"""Opens the database and the memory of a command."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import evomem
from evomem.cli.agents_arguments import AGENTS_FOLDER
from evomem.cli.screen import Screen
from evomem.database import Database
from evomem.errors import NotFound, QueryError, StoreError
from evomem.memory import Memory
from evomem.memory_view import MemoryView
from evomem.reranking import load_reranker


def open_database(
    args: Namespace, screen: Screen, *, create: bool = False, reranker: str | None = None
) -> Database:
    """Open `args.db`; if it is created, report its encoder."""
    encoder = evomem.load_encoder(args.encoder, device=args.device) if args.encoder else None
    second = load_reranker(reranker, device=args.device) if reranker else None
    try:
        return evomem.open(args.db, encoder, device=args.device, create=False, reranker=second)
    except NotFound as error:
        if not create:
            raise NotFound(
                f"there is no database {args.db}; evomem add and evomem import make one"
            ) from error
    db = evomem.open(args.db, encoder, device=args.device, reranker=second)
    order = "" if db.spec.capacity else ", which has no memory of order"
    chosen = "" if args.encoder else " (--encoder chooses another)"
    screen.note(f"made {args.db}; its encoder is {db.spec.name}{order}{chosen}")
    return db


def open_to_write(args: Namespace, screen: Screen, *, create: bool = True) -> Database:
    """Open the database, or create it; a dry run that would create it uses a temporary one."""
    if not args.dry_run:
        return open_database(args, screen, create=create)
    try:
        return open_database(args, screen)
    except NotFound:
        return evomem.open(":memory:", encoder="hash")


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


def past_of(memory: Memory, args: Namespace) -> MemoryView:
    """Return the memory at the point that the arguments name, or its current state.

    Raises:
        QueryError: The memory has no such point, or the point is neither a number nor ISO 8601.
    """
    if args.added is not None:
        return memory.at(added=moment_of(args, "added"))
    if args.at is None:
        return memory
    if args.at.isdecimal():
        return memory.at(seq=int(args.at))
    return memory.at(time=moment_of(args, "at"))


def moment_of(args: Namespace, name: str) -> datetime | None:
    """Return the time of an option; a time without a zone is in `zone_of`.

    Raises:
        QueryError: It is not ISO 8601.
    """
    text = getattr(args, name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] == "Z" else text)
    except ValueError as error:
        raise QueryError(
            f"--{name} {text!r} is not ISO 8601; write it like 2024-03-05T14:30"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone_of(args))


def _system_zone() -> tzinfo:
    """Return the system's time zone; its current offset from UTC if it has no name."""
    try:
        if name := os.environ.get("TZ", "").lstrip(":"):
            return ZoneInfo(name)
        place = Path("/etc/localtime")
        with suppress(KeyError, ValueError):  # a service needs the zone's name
            return ZoneInfo(str(place.resolve()).rpartition("/zoneinfo/")[2])
        with place.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (KeyError, ValueError, OSError):
        offset = datetime.now().astimezone().tzinfo
        assert offset is not None
        return offset


def make_agents_folder(location: str) -> None:
    """Create the folder of `AGENTS_DB`, accessible only to its owner, if that is the location.

    Raises:
        StoreError: It cannot be made.
    """
    folder = Path(AGENTS_FOLDER).expanduser()
    if Path(location).expanduser().parent != folder:
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made ({error.strerror}): name another database with --db"
        ) from error
