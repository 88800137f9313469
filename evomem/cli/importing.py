"""`evomem import`: chat files into one memory, or each into its own."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.text import Text

from evomem import store
from evomem.chats import Chats, read_chats
from evomem.cli import upkeep
from evomem.cli.commands import STDIN
from evomem.cli.opening import labels_of, open_database
from evomem.cli.screen import Screen, plain
from evomem.errors import InputError
from evomem.records import Turn


def import_(args: Namespace, screen: Screen) -> int:
    """Store what is new in chat files; all of them are checked before anything is written."""
    if len(args.files) == 1 and Path(args.files[0]).is_dir():
        return upkeep.load(args.files[0], args, screen)
    names: list[str] = args.files
    files = [
        read_chats(_bytes(name), _shown(name), zone=args.timezone, source=args.source)
        for name in names
    ]
    if args.each:
        histories = _one_each(tuple(args.memory or ()), names, files)
    else:
        histories = {labels_of(args): _together(files)}
    count = sum(map(len, histories.values()))
    with open_database(args, screen, create=True) as db, screen.progress() as progress:
        memories = [db.memory(*namespace) for namespace in histories]
        before = sum(map(len, memories))
        db.add_many(histories.items(), progress=lambda done: progress("reading", done, count))
        new = sum(map(len, memories)) - before
    summary = _summary(files, new=new, known=count - new)
    where = "/".join(memories[0].namespace) if len(memories) == 1 else f"{len(memories)} memories"
    lines = [
        f"{new} new turns in {where} ({count - new} were there already), from "
        f"{summary['messages']} messages in {summary['conversations']} conversations"
    ]
    if summary["left_out"]:
        left = ", ".join(f"{count} {kind}" for kind, count in summary["left_out"].items())
        lines.append(f"left out: {left}")
    screen.result(summary, *(Text(plain(line)) for line in lines))
    return 0


def _together(files: Iterable[Chats]) -> list[Turn]:
    """Return the turns of all files, one after another; those that two of them hold once."""
    turns: dict[str | None, Turn] = {}
    for turn in (turn for chats in files for turn in chats.turns):
        if turns.setdefault(turn.id, turn).content != turn.content:
            raise InputError(f"two of the files hold the id {turn.id!r}, with different texts")
    return list(turns.values())


def _one_each(
    above: store.Namespace, names: Iterable[str], files: Iterable[Chats]
) -> dict[store.Namespace, list[Turn]]:
    """Return the turns of each file, by the memory that is called as the file is."""
    histories: dict[store.Namespace, list[Turn]] = {}
    for name, chats in zip(names, files, strict=True):
        if name == STDIN:
            raise InputError("what comes from stdin has no name for a memory: leave out --each")
        namespace = (*above, Path(name).stem)
        if namespace in histories:
            raise InputError(
                f"two of the files are called {namespace[-1]!r}, and would be one memory: "
                "rename one, or import them one after another"
            )
        histories[namespace] = chats.turns
    return histories


def _summary(files: Iterable[Chats], *, new: int, known: int) -> dict[str, Any]:
    left_out: Counter[str] = Counter()
    for chats in files:
        left_out.update(chats.left_out)
    return {
        "new": new,
        "known": known,
        "conversations": sum(chats.conversations for chats in files),
        "messages": sum(chats.messages for chats in files),
        "left_out": dict(left_out),
    }


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name


def _bytes(name: str) -> bytes:
    if name == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
