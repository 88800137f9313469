"""`evomem ingest`: files and folders as the documents of a memory."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from evomem import documents
from evomem.cli.opening import memory_of, open_to_write
from evomem.cli.screen import Screen, plain
from evomem.documents import Ingested
from evomem.errors import InputError
from evomem.memory import Memory

SHOWN = 20  # documents that are listed for people


def ingest(args: Namespace, screen: Screen) -> int:
    """Bring a memory up to date with files; a file that cannot be read does not stop the others."""
    paths = [path for name in args.paths for path in documents.files(name)]
    if not paths and not args.forget_missing:
        raise InputError(
            f"there is no document in {', '.join(args.paths)}: names must end with "
            f"{', '.join(documents.SUFFIXES)}"
        )
    results: list[Ingested] = []
    problems: list[str] = []
    with open_to_write(args, screen, create=bool(paths)) as db, screen.progress() as progress:
        memory = memory_of(db, args)
        for number, path in enumerate(paths):
            progress("reading", number, len(paths))
            try:
                results.append(_add(memory, path, args))
            except InputError as error:
                if len(paths) == 1:
                    raise
                problems.append(str(error))
        forgotten = _forget_missing(memory, args)
    value = {
        "documents": [asdict(result) for result in results],
        "forgotten": forgotten,
        "problems": problems,
    }
    lines = _lines(results, forgotten, problems, dry_run=args.dry_run)
    screen.result(value, *[Text(plain(line)) for line in lines])
    return 2 if problems else 0


def _add(memory: Memory, path: Path, args: Namespace) -> Ingested:
    return memory.add_document(path, source=args.source, length=args.length, dry_run=args.dry_run)


def _forget_missing(memory: Memory, args: Namespace) -> list[str]:
    """Purge the documents below the given folders whose files are gone, and return their names."""
    if not args.forget_missing:
        return []
    names = {
        name
        for path in args.paths
        for name in documents.document_names(memory, below=path)
        if not Path(name).exists()
    }
    if not args.dry_run:
        for name in sorted(names):
            memory.expire(session=name)
    return sorted(names)


def _lines(
    results: Sequence[Ingested], forgotten: Sequence[str], problems: Sequence[str], *, dry_run: bool
) -> list[str]:
    """Return the summary for people."""
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
