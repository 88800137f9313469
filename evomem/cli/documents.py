"""`evomem ingest`: files and folders as the documents of a memory."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from evomem import documents
from evomem.cli.opening import memory_of, open_to_write
from evomem.cli.screen import Screen, plain
from evomem.documents import Ingested
from evomem.errors import InputError
from evomem.memory import Memory

SHOWN = 20  # documents listed in the text output


def ingest(args: Namespace, screen: Screen) -> int:
    """Update a memory from files; a file that cannot be read does not stop the others."""
    by_root = {root: list(documents.files(root)) for root in args.paths}
    paths = [path for files in by_root.values() for path in files]
    if not paths and not args.forget_missing:
        raise InputError(
            f"there is no document in {', '.join(args.paths)}: names must end with "
            f"{', '.join(documents.SUFFIXES)}"
        )
    results: list[Ingested] = []
    problems: list[str] = []
    with open_to_write(args, screen, create=bool(paths)) as db, screen.progress() as progress:
        memory = memory_of(db, args)
        missing = _missing(memory, by_root) if args.forget_missing else []
        for number, path in enumerate(paths):
            progress("reading", number, len(paths))
            try:
                results.append(_add(memory, path, args))
            except InputError as error:
                if len(paths) == 1:
                    raise
                problems.append(str(error))
        for name in () if args.dry_run else missing:
            memory.expire(session=name)
    value = {
        "documents": [asdict(result) for result in results],
        "forgotten": missing,
        "problems": problems,
    }
    lines = _lines(results, missing, problems, dry_run=args.dry_run)
    screen.result(value, *[Text(plain(line)) for line in lines])
    return 2 if problems else 0


def _add(memory: Memory, path: Path, args: Namespace) -> Ingested:
    return memory.add_document(path, source=args.source, length=args.length, dry_run=args.dry_run)


def _missing(memory: Memory, by_root: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return the sorted names of the documents below some folders whose files no longer exist.

    Args:
        memory: The memory that has the documents.
        by_root: The folders, each with the documents that are in it.

    Raises:
        InputError: No document is left in a folder: it may be a file system that is not mounted.
    """
    names: set[str] = set()
    for root, paths in by_root.items():
        gone = [
            name for name in documents.document_names(memory, below=root) if not Path(name).exists()
        ]
        if gone and not paths:
            raise InputError(
                f"there is no document in {root}, but the memory has {len(gone)} from there: mount "
                "the file system if it is on another one; to forget them, run "
                f"`evomem expire --session {shlex.quote(gone[0])}` for each"
            )
        names.update(gone)
    return sorted(names)


def _lines(
    results: Sequence[Ingested], forgotten: Sequence[str], problems: Sequence[str], *, dry_run: bool
) -> list[str]:
    """Return the lines of the text output."""
    would = " (nothing was written)" if dry_run else ""
    changed = [result for result in results if result.changed]
    passages = sum(result.added + result.replaced for result in results)
    lines = [
        f"{len(results)} {'document' if len(results) == 1 else 'documents'}, "
        f"{len(changed)} new or changed, with {passages} new passages{would}"
    ]
    for result in changed[:SHOWN]:
        counts = {
            "added": result.added,
            "replaced": result.replaced,
            "deleted": result.deleted,
            "moved": result.moved,
            "unchanged": result.unchanged,
        }
        parts = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        lines.append(f"  {result.name}: {parts}")
    if len(changed) > SHOWN:
        lines.append(f"  ... and {len(changed) - SHOWN} more (--json lists all)")
    lines += [f"forgot {name}, whose file is gone{would}" for name in forgotten]
    lines += [f"skipped: {problem}" for problem in problems]
    return lines
