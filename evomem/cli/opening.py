"""The database and the memory that a command is about."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import evomem
from evomem.cli.screen import Screen
from evomem.database import Database
from evomem.errors import NotFound, StoreError
from evomem.memory import Memory

AGENTS_FOLDER = "~/.evomem"
AGENTS_DB = f"{AGENTS_FOLDER}/evomem.db"
"""The database of `evomem mcp` and `evomem hooks`: programs start these in folders of their own."""


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


def make_agents_folder(location: str) -> None:
    """Make the folder of `AGENTS_DB`, for its owner alone, if that is the location.

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
