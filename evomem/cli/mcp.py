"""`evomem mcp`: a memory as tools of the Model Context Protocol, on stdin and stdout."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import evomem
from evomem._extras import require
from evomem.cli.opening import AGENTS_DB, labels_of, make_agents_folder
from evomem.cli.screen import Screen


def add_mcp(commands: Any, make: Callable[..., Any]) -> None:
    """Add the command's parser."""
    parser = make(
        commands,
        "mcp",
        "serve a memory to a coding agent or a desktop assistant",
        "Serve one memory as tools of the Model Context Protocol on stdin and stdout, until stdin "
        "ends. A client starts this itself: docs/guides/mcp.md has the line for each of them.",
        "  evomem mcp\n"
        "  evomem mcp --db ~/notes/agent.db --memory acme --memory alice\n"
        "  evomem mcp --memory work --source desktop",
        db=AGENTS_DB,
    )
    parser.add_argument(
        "--source",
        metavar="LABEL",
        default="mcp",
        help="the source label of stored turns (default: mcp)",
    )


def mcp(args: Namespace, screen: Screen) -> int:
    """Serve a memory until stdin ends."""
    require("mcp_types", extra="mcp")  # which version 1 of the SDK has not
    from evomem.service.mcp.stdio import serve

    def open_database() -> evomem.Database:
        make_agents_folder(args.db)
        return evomem.open(args.db, args.encoder, device=args.device)

    if sys.stdin.isatty():
        screen.note(
            "a client of the protocol starts this and talks on stdin: see docs/guides/mcp.md"
        )
    serve(open_database, labels_of(args), args.source)
    return 0
