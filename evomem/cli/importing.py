"""`evomem import`: conversations into one memory, or each file into its own."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import evomem
from evomem import chats, store
from evomem.chats import Chats, Conversation
from evomem.chats.fields import time as read_time
from evomem.cli import upkeep
from evomem.cli.commands import STDIN
from evomem.cli.opening import labels_of, open_to_write
from evomem.cli.screen import Screen, exchanges_table, formats_table, plain
from evomem.errors import InputError
from evomem.importing import Imported

SHOWN = 20  # problems and files listed in the text output


def import_(args: Namespace, screen: Screen) -> int:
    """Store the new turns of conversations; everything is checked before anything is written."""
    if args.formats:
        formats = chats.formats()
        screen.result({"formats": formats}, formats_table(formats))
        return 0
    names: list[str] = args.files
    if not names:
        raise InputError("name a file to import; --formats lists what can be read")
    if len(names) == 1 and (Path(names[0]) / "evomem.json").is_file():
        return upkeep.load(names[0], args, screen)
    files = [_read(name, args) for name in names]
    if args.each:
        histories = _one_each(tuple(args.memory or ()), names, files)
    else:
        histories = {labels_of(args): files}
    done = _import(histories, args, screen)
    memories = list(histories)
    where = "/".join(memories[0]) if len(memories) == 1 else f"{len(memories)} memories"
    rendered: list[Table | Text] = [Text(plain(line)) for line in _lines(done, files, where, args)]
    if args.dry_run and done.first:
        rendered += [Text(""), exchanges_table(done.first)]
    screen.result(_summary(done, files, args), *rendered)
    return 0


def _read(name: str, args: Namespace) -> Chats:
    source: object = sys.stdin.buffer.read() if name == STDIN else Path(name)
    since = read_time("--since", args.since, args.timezone or timezone.utc)
    try:
        return chats.read(
            source,
            format=args.format,
            zone=args.timezone,
            skip_bad=args.skip_bad,
            since=since,
            name="stdin" if name == STDIN else name,
        )
    except InputError as error:
        if args.skip_bad or not any(f", {word} " in str(error) for word in ("line", "message")):
            raise
        raise InputError(f"{error} (--skip-bad imports everything else)") from error


def _import(
    histories: dict[store.Namespace, list[Chats]], args: Namespace, screen: Screen
) -> Imported:
    count = sum(file.messages for files in histories.values() for file in files)
    with open_to_write(args, screen) as db, screen.progress() as progress:
        return db.import_chats(
            {labels: _Together(files) for labels, files in histories.items()}.items(),
            include_forgotten=args.include_forgotten,
            dry_run=args.dry_run,
            turn_source=args.source,
            progress=lambda done: progress("reading", done, count),
        )


class _Together:
    """The conversations of several files, one after another; can be iterated again."""

    def __init__(self, files: Sequence[Chats]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[Conversation]:
        for file in self._files:
            yield from file.conversations


def _one_each(
    above: store.Namespace, names: Iterable[str], files: Iterable[Chats]
) -> dict[store.Namespace, list[Chats]]:
    """Return the files by memory; each memory is named after its file."""
    histories: dict[store.Namespace, list[Chats]] = {}
    for name, file in zip(names, files, strict=True):
        if name == STDIN:
            raise InputError("stdin has no file name to name a memory after: leave out --each")
        namespace = (*above, Path(name).stem)
        if namespace in histories:
            raise InputError(
                f"two of the files are called {namespace[-1]!r}, and would be one memory: "
                "rename one, or import them one after another"
            )
        histories[namespace] = [file]
    return histories


def _lines(done: Imported, files: Sequence[Chats], where: str, args: Namespace) -> Iterator[str]:
    """Yield the lines of the text output."""
    messages, conversations = sum(chats.messages for chats in files), sum(map(len, files))
    yield (
        f"{_count(done.new, 'new turn')} {'would be added to' if args.dry_run else 'in'} {where} "
        f"({done.known} {'was' if done.known == 1 else 'were'} there already), from "
        f"{_count(messages, 'message')} in {_count(conversations, 'conversation')}"
    )
    if done.replaced:
        verb = "would take" if args.dry_run else "took"
        yield (
            f"{done.replaced} of the new turns {verb} the place of earlier versions: "
            "a question was answered, or an answer was changed"
        )
    if done.deleted:
        yield f"{_count(done.deleted, 'deleted turn')} left out"
    if done.forgotten:
        yield (
            f"{_count(done.forgotten, 'forgotten turn')} left out "
            "(--include-forgotten brings what was purged back)"
        )
    left_out = _left_out(files)
    if left_out:
        yield "left out: " + ", ".join(f"{count} {kind}" for kind, count in left_out.items())
    read = [file for chats in files for file in chats.files]
    for file in read[:SHOWN]:
        shapes = ", ".join(file.shapes) or "not a chat, skipped"
        yield f"read {file.where} as {shapes}"
    if len(read) > SHOWN:
        yield f"... and {len(read) - SHOWN} more files"
    yield from dict.fromkeys(note for file in files for note in file.notes)
    problems = [problem for file in files for problem in file.problems]
    if problems:
        yield f"skipped {_count(len(problems), 'bad message')}:"
    yield from (f"  {problem.where}: {problem.reason}" for problem in problems[:SHOWN])
    if len(problems) > SHOWN:
        yield f"  ... and {len(problems) - SHOWN} more (--json lists all)"


def _summary(done: Imported, files: Sequence[Chats], args: Namespace) -> dict[str, Any]:
    """Return the summary as JSON values."""
    return {
        "new": done.new,
        "replaced": done.replaced,
        "known": done.known,
        "deleted": done.deleted,
        "forgotten": done.forgotten,
        "conversations": sum(map(len, files)),
        "messages": sum(file_read.messages for file_read in files),
        "left_out": _left_out(files),
        "files": [
            {"file": file_read.where, "formats": list(file_read.shapes)}
            for file in files
            for file_read in file.files
        ],
        "notes": list(dict.fromkeys(note for file in files for note in file.notes)),
        "problems": [problem._asdict() for file in files for problem in file.problems],
        **({"first": [_shown(turn) for turn in done.first]} if args.dry_run else {}),
    }


def _left_out(files: Iterable[Chats]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for file in files:
        total.update(file.left_out)
    return dict(total)


def _shown(turn: evomem.Turn) -> dict[str, Any]:
    time = turn.time.isoformat() if isinstance(turn.time, datetime) else None
    return {"user": turn.user, "assistant": turn.assistant, "session": turn.session, "time": time}


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
