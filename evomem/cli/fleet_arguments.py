"""The arguments of `fleet serve`, `fleet import` and `fleet reencode`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from evomem.cli.service_arguments import add_service_options
from evomem.fleet.cluster import LEASE

Make = Callable[..., argparse.ArgumentParser]
"""Makes the parser of one command: its name, a summary, a sentence, and examples."""


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
    for way, change, seconds in (("up", "added", 30.0), ("down", "removed", 600.0)):
        parser.add_argument(
            f"--{way}scale-delay",
            metavar="SECONDS",
            type=float,
            default=seconds,
            help=f"how long the load must differ before replicas are {change} "
            f"(default: {seconds:g})",
        )
    parser.add_argument(
        "--queued",
        metavar="N",
        type=int,
        default=256,
        help="maximum number of waiting requests; further ones are rejected (default: 256)",
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
        "Import files of conversations, each into a memory named after the file. A file "
        "that cannot be imported is reported; the others are imported all the same.",
        "  evomem fleet import chats/*.json --db postgresql://user@host/database --workers 8",
    )
    _on_ray(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="paths that every worker can read")
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
