"""The commands of a fleet on Ray: `fleet serve`, `fleet import` and `fleet reencode`."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from evomem._extras import require
from evomem.cli.opening import open_database
from evomem.cli.screen import Screen, plain
from evomem.cli.service import settings_of
from evomem.cli.service_arguments import add_service_options
from evomem.errors import InputError
from evomem.fleet.cluster import LEASE

Make = Callable[..., argparse.ArgumentParser]
"""Makes the parser of one command: its name, a summary, a sentence, and examples."""


def fleet(args: Namespace, screen: Screen) -> int:
    """Do what `args.kind` names."""
    require("ray", extra="ray")
    if "://" not in args.db:
        raise InputError(
            f"{args.db} is a file, which workers on other machines do not reach: name a PostgreSQL "
            "database, as in --db postgresql://user@host/database"
        )
    commands = {"serve": _serve, "import": _import, "reencode": _reencode}
    return commands[args.kind](args, screen)


def _serve(args: Namespace, screen: Screen) -> int:
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="server")
    from evomem.fleet.serving import Size, run
    from evomem.service.running import check

    if not 1 <= args.min_replicas <= args.max_replicas:
        raise InputError(
            f"--min-replicas must be at least 1 and at most --max-replicas, got {args.min_replicas} "
            f"and {args.max_replicas}"
        )
    if args.fallbacks < 0:
        raise InputError(f"--fallbacks must be at least 0, got {args.fallbacks}")
    settings = settings_of(args)
    needs_key = check(settings, tls=False)
    with open_database(args, screen, create=True):
        pass  # made with its encoder, and found to be sound, before replicas start
    screen.note(f"serving {settings.host}:{settings.port} on Ray; Ctrl-C stops it")
    if not needs_key:
        screen.note("no key was made yet: every program on this machine may use it")
    size = Size(
        least=args.min_replicas,
        most=args.max_replicas,
        requests=args.target,
        queued=args.queued,
        cpus=args.cpus,
        gpus=args.gpus,
        fallbacks=args.fallbacks,
    )
    run(settings, size, address=args.address)
    return 0


def _import(args: Namespace, screen: Screen) -> int:
    from evomem.fleet.bulk import import_files

    above = tuple(args.memory or ())
    histories: dict[str, tuple[str, ...]] = {}
    for name in args.files:
        labels = (*above, Path(name).stem)
        if labels in histories.values():
            raise InputError(f"two of the files are called {labels[-1]!r}: rename one")
        histories[str(Path(name).absolute())] = labels
    with screen.progress() as progress:
        outcomes = import_files(
            args.db,
            histories,
            encoder=args.encoder,
            device=args.device,
            lease=args.lease,
            workers=args.workers,
            gpus=args.gpus,
            address=args.address,
            progress=lambda *done: progress("files", *done),
        )
    return _report(outcomes, f"{outcomes.turns} new turns from {len(histories)} files", screen)


def _reencode(args: Namespace, screen: Screen) -> int:
    from evomem.fleet.bulk import reencode

    if args.encoder is None:
        raise InputError("name the new encoder with --encoder")
    with screen.progress() as progress:
        outcomes = reencode(
            args.db,
            args.encoder,
            device=args.device,
            workers=args.workers,
            gpus=args.gpus,
            address=args.address,
            progress=lambda *done: progress("memories", *done),
        )
    line = f"{outcomes.turns} turns were read with {args.encoder}"
    if outcomes.failed:
        line += "; the database keeps its encoder until all can be read"
    return _report(outcomes, line, screen)


def _report(outcomes: Any, line: str, screen: Screen) -> int:
    """Print what was done and what was set aside; return 3 if anything was."""
    lines = [line]
    if outcomes.failed:
        lines.append(f"{len(outcomes.failed)} set aside:")
        lines += [f"  {name}: {error}" for name, error in outcomes.failed.items()]
    screen.result(
        {"turns": outcomes.turns, "failed": outcomes.failed},
        *(Text(plain(report_line)) for report_line in lines),
    )
    return 3 if outcomes.failed else 0


def add_fleet(commands: Any, make_group: Make, make: Make) -> None:
    """Add the parsers of `fleet serve`, `fleet import` and `fleet reencode`."""
    group = make_group(
        commands,
        "fleet",
        "serve, import and reencode with many workers, on Ray",
        "Use one PostgreSQL database with many workers, on this machine or on a Ray cluster "
        "(docs/operations/fleet.md). Needs the extra [ray].",
        "  evomem fleet serve --db postgresql://user@host/database --max-replicas 4\n"
        "  evomem fleet import chats/*.json --db postgresql://user@host/database --workers 8\n"
        "  evomem fleet reencode --encoder mini --db postgresql://user@host/database",
    )
    kinds = group.add_subparsers(dest="kind", metavar="KIND", title="kinds", required=True)
    parser = make(
        kinds,
        "serve",
        "serve the database from many replicas",
        "Deploy the service of evomem serve on Ray Serve. All requests of a memory go to one replica.",
        "  evomem fleet serve --db postgresql://user@host/database --min-replicas 2 --max-replicas 8",
    )
    _on_ray(parser)
    parser.add_argument("--min-replicas", metavar="N", type=int, default=1, help="(default: 1)")
    parser.add_argument("--max-replicas", metavar="N", type=int, default=1, help="(default: 1)")
    parser.add_argument(
        "--target",
        metavar="N",
        type=float,
        default=8.0,
        help="requests that a replica works on, on average: with more, replicas are added "
        "(default: 8)",
    )
    parser.add_argument(
        "--queued",
        metavar="N",
        type=int,
        default=256,
        help="the number of waiting requests, at most; further ones are rejected (default: 256)",
    )
    parser.add_argument("--cpus", metavar="N", type=float, default=1.0, help="of each replica")
    parser.add_argument(
        "--fallbacks",
        metavar="N",
        type=int,
        default=0,
        help="other replicas that requests may go to if their memory's own is full (default: 0)",
    )
    add_service_options(parser)
    parser = make(
        kinds,
        "import",
        "import many files, each into its own memory",
        "Import files of conversations, each into the memory that is called as the file is. A file "
        "that cannot be imported is set aside, and the others go on.",
        "  evomem fleet import chats/*.json --db postgresql://user@host/database --workers 8",
    )
    _on_ray(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="paths that every worker reaches")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="(default: 2)")
    parser = make(
        kinds,
        "reencode",
        "change the encoder",
        "Read every turn again with the encoder that --encoder names, on many workers, then replace "
        "the old encoder.",
        "  evomem fleet reencode --encoder mini --db postgresql://user@host/database --workers 8",
    )
    _on_ray(parser)
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="(default: 2)")


def _on_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address", help="of a Ray cluster, such as auto (default: start Ray on this machine)"
    )
    parser.add_argument(
        "--gpus",
        metavar="N",
        type=float,
        help="of each worker (default: one where the cluster has any)",
    )
    parser.add_argument(
        "--lease",
        metavar="SECONDS",
        type=float,
        default=LEASE,
        help=f"how long a worker's lease lasts after a write (default: {LEASE:g})",
    )
