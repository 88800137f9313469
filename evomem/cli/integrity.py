"""The commands that detect edits made without evomem: `anchor` and `keys integrity`."""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from rich.text import Text

import evomem
from evomem.cli.opening import open_database
from evomem.cli.screen import Screen, plain
from evomem.errors import InputError, NotFound
from evomem.integrity import FILE_VARIABLE, key_id, make_key, read_key

TIMEOUT = 30.0  # seconds for a server that stores anchors


def anchor(args: Namespace, screen: Screen) -> int:
    """Write a sealed record of the database's state."""
    with open_database(args, screen) as db:
        taken = db.anchor()
    text = json.dumps(taken)
    if args.to is None:
        screen.result(taken, Text(text))
        return 0
    if args.to.startswith(("http://", "https://")):
        _put(args.to, text)
    else:
        _replace(Path(args.to).expanduser(), text)
    line = f"wrote the anchor of {len(taken['memories'])} memories to {args.to}"
    screen.result({"database": args.db, "anchor": args.to}, Text(plain(line)))
    return 0


def make_integrity_key(args: Namespace, screen: Screen) -> int:
    """Create an integrity key, and seal the database with it."""
    path = Path(args.file).expanduser().absolute()
    made = not path.exists()
    key = make_key(path) if made else read_key(path)
    lines = [
        f"wrote a new key, {key_id(key)}, to {path}: keep a copy of it in another place"
    ] * made
    count = None
    with suppress(NotFound), evomem.open(args.db, create=False) as db:
        count = db.seal(key)
        lines.append(f"sealed {count} turns of {args.db} with the key {key_id(key)}")
    lines.append(f"from now on: export {FILE_VARIABLE}={path}")
    values = {"key": key_id(key), "file": str(path), "made": made, "sealed": count}
    screen.result({**values, "database": args.db}, *(Text(plain(line)) for line in lines))
    return 0


def _put(url: str, text: str) -> None:
    request = urllib.request.Request(
        url, text.encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass
    except (OSError, ValueError) as error:
        raise InputError(f"the anchor could not be PUT to {url}: {error}") from error


def _replace(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(partial, "x", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"the anchor cannot be written to {path}: {error.strerror}") from error
