"""The command line: `evomem add`, `search`, ...; `COMMANDS` lists them all.

arguments ─► one function in `commands`, `importing`, `upkeep`, `train` or `demo` ─► the engine ─► `screen`
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from evomem.cli.arguments import TOUR, make_parser
from evomem.errors import EvomemError, InputError

COMMANDS = {
    "add": "commands.add",
    "correct": "commands.correct",
    "import": "importing.import_",
    "ingest": "documents.ingest",
    "search": "commands.search",
    "context": "commands.context",
    "ask": "commands.ask",
    "show": "commands.show",
    "influence": "commands.influence",
    "stats": "commands.stats",
    "verify": "commands.verify",
    "train": "train.train",
    "demo": "demo.run_demo",
    "purge": "upkeep.purge",
    "expire": "upkeep.expire",
    "drop": "upkeep.drop",
    "reencode": "upkeep.reencode",
    "reread": "upkeep.reread",
    "backup": "upkeep.backup",
    "restore": "upkeep.restore",
    "export": "upkeep.export",
    "anchor": "integrity.anchor",
    "compact": "upkeep.compact",
    "doctor": "upkeep.doctor",
    "serve": "service.serve",
    "fleet": "fleet.fleet",
    "inspect": "service.inspect",
    "keys": "service.keys",
    "mcp": "mcp.mcp",
    "hooks": "hooks.hooks",
}
"""The function of each command, by its module, which is imported when the command is called."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `arguments.EXITS`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a console may not support every character of a chat
            stream.reconfigure(errors="replace")
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the reason
        return int(stop.code or 0)
    if args.command is None:
        sys.stdout.write(TOUR)
        return 0
    from evomem.cli.screen import Screen

    screen = Screen(as_json=args.json)
    module, _, name = COMMANDS[args.command].partition(".")
    try:
        code: int = getattr(import_module(f"evomem.cli.{module}"), name)(args, screen)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        screen.error("stopped; what was stored stays, run the same command again to continue")
        return 130
    except BrokenPipeError:  # `evomem show | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except InputError as error:
        screen.error(str(error))
        return 2
    except EvomemError as error:
        screen.error(str(error))
        return 3
