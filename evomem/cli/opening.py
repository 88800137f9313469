"""The database and the memory that a command is about."""

from __future__ import annotations

from argparse import Namespace

import evomem
from evomem.cli.screen import Screen
from evomem.database import Database
from evomem.errors import NotFound
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
