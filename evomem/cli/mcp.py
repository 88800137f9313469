"""`evomem mcp`: a memory as tools of the Model Context Protocol, on stdin and stdout."""

from __future__ import annotations

import sys
from argparse import Namespace

import evomem
from evomem._extras import require
from evomem.cli.opening import labels_of, make_agents_folder
from evomem.cli.screen import Screen


def mcp(args: Namespace, screen: Screen) -> int:
    """Serve a memory until stdin ends."""
    require("mcp_types", extra="mcp")  # missing in version 1 of the SDK
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
