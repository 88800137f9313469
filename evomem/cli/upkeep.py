"""The commands for maintenance: forgetting, copies, repairs, other encoders."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.text import Text

import evomem
from evomem.cli.opening import memory_of, open_database
from evomem.cli.screen import Screen, plain
from evomem.database import restore as restore_database
from evomem.doctor import examine
from evomem.errors import InputError
from evomem.forgetting import Receipt
from evomem.reencode import reencode as reencode_database


def purge(args: Namespace, screen: Screen) -> int:
    """Forget one turn."""
    with open_database(args, screen) as db, screen.progress() as progress:
        receipt = memory_of(db, args).purge(
            args.id, forks=args.forks, progress=lambda *count: progress("reading", *count)
        )
    return _receipt(receipt, screen)


def expire(args: Namespace, screen: Screen) -> int:
    """Forget turns by age, session or source."""
    if args.before is None and args.session is None and args.source is None:
        raise InputError(
            "give --before, --session or --source: without them everything would be forgotten"
        )
    with open_database(args, screen) as db, screen.progress() as progress:
        receipt = memory_of(db, args).expire(
            before=args.before,
            session=args.session,
            source=args.source,
            forks=args.forks,
            progress=lambda *count: progress("reading", *count),
        )
    return _receipt(receipt, screen)


def drop(args: Namespace, screen: Screen) -> int:
    """Forget whole memories."""
    if not args.memory:
        raise InputError("name the memory to drop with --memory: none is dropped by default")
    with open_database(args, screen) as db:
        return _receipt(db.drop(*args.memory), screen)


def reencode(args: Namespace, screen: Screen) -> int:
    """Change the encoder, or remove the embeddings and latents of earlier ones."""
    if args.drop_old:
        with open_database(args, screen) as db:
            names = db.drop_generations()
        line = f"dropped the readings of: {', '.join(names) or 'none'}"
        screen.result({"database": args.db, "dropped": names}, Text(plain(line)))
        return 0
    if args.encoder is None:
        raise InputError("name the new encoder with --encoder")
    with screen.progress() as progress:
        count = reencode_database(
            args.db,
            args.encoder,
            device=args.device,
            workers=args.workers,
            progress=lambda *done: progress("reading", *done),
        )
    line = f"{args.db} uses the encoder {args.encoder}; {count} turns were read"
    screen.result({"database": args.db, "encoder": args.encoder, "read": count}, Text(plain(line)))
    return 0


def reread(args: Namespace, screen: Screen) -> int:
    """Read a memory again in the order of time."""
    with open_database(args, screen) as db, screen.progress() as progress:
        count = memory_of(db, args).reread(progress=lambda *done: progress("reading", *done))
    line = f"{count} turns were read again" if count else "the turns are in the order of time"
    screen.result({"database": args.db, "read": count}, Text(line))
    return 0


def backup(args: Namespace, screen: Screen) -> int:
    """Copy the database."""
    with open_database(args, screen) as db:
        db.backup(args.target)
    return _done(screen, {"database": args.db, "backup": args.target}, f"wrote {args.target}")


def restore(args: Namespace, screen: Screen) -> int:
    """Create a database from a backup."""
    restore_database(args.backup, args.db)
    return _done(screen, {"database": args.db, "backup": args.backup}, f"made {args.db}")


def export(args: Namespace, screen: Screen) -> int:
    """Export the database to readable files."""
    with open_database(args, screen) as db:
        count = db.export(args.target)
    line = f"wrote {count} turns to {args.target}"
    return _done(screen, {"database": args.db, "folder": args.target, "turns": count}, line)


def load(folder: str, args: Namespace, screen: Screen) -> int:
    """Load an export (`evomem import FOLDER`)."""
    encoder = args.encoder or _encoder_of(folder)
    with open_database(Namespace(**{**vars(args), "encoder": encoder}), screen, create=True) as db:
        count = db.load(folder)
    return _done(
        screen, {"database": args.db, "folder": folder, "turns": count}, f"loaded {count} turns"
    )


def compact(args: Namespace, screen: Screen) -> int:
    """Return unused space."""
    with open_database(args, screen) as db:
        before, after = db.compact(args.embeddings)
    line = f"{before:,} bytes before, {after:,} after"
    return _done(screen, {"database": args.db, "before": before, "after": after}, line)


def doctor(args: Namespace, screen: Screen) -> int:
    """Print the results of all checks."""
    findings = list(examine(args.db))
    values = [
        {"what": finding.what, "sound": finding.sound, "says": finding.says} for finding in findings
    ]
    lines = [
        f"{'ok ' if finding.sound else 'NO '} {finding.what}: {finding.says}"
        for finding in findings
    ]
    screen.result(
        {"evomem": evomem.__version__, "findings": values}, *(Text(plain(line)) for line in lines)
    )
    return 0 if all(finding.sound for finding in findings) else 1


def _encoder_of(folder: str) -> str:
    """Return the name of the encoder of an export."""
    try:
        return str(json.loads((Path(folder) / "evomem.json").read_text("utf-8"))["encoder"]["name"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder} is not what evomem export writes: {error}") from error


def _receipt(receipt: Receipt, screen: Screen) -> int:
    line = f"forgot {receipt.turns} turns, read {receipt.reread} later ones again"
    if receipt.kept:
        line += f"; {receipt.kept} turns stay for forks that share them"
    if not receipt.clean:
        line += "; old bytes are still in the database's files: see docs/operations/forgetting.md"
    return _done(screen, receipt.to_json(), line)


def _done(screen: Screen, values: dict[str, Any], line: str) -> int:
    screen.result(values, Text(plain(line)))
    return 0
