"""The parser of the command line; most commands define their arguments in separate modules."""

from __future__ import annotations

import argparse
import os
from typing import Any

import evomem
from evomem.cli.agents_arguments import add_hooks, add_mcp
from evomem.cli.fleet_arguments import add_fleet
from evomem.cli.reading_arguments import add_reading
from evomem.cli.service_arguments import add_inspect, add_keys, add_serve
from evomem.cli.train_arguments import EXAMPLES, SENTENCE, add_arguments
from evomem.cli.upkeep_arguments import add_upkeep
from evomem.cli.writing_arguments import add_writing
from evomem.plugins import DEFAULT_ENCODER

TOUR = """\
evomem stores conversations in order and finds turns by meaning.

  evomem demo                                      watch it remember eight weeks of a life
  evomem add "I moved to Oslo last week."          remember one turn (in ./evomem.db)
  evomem import chats.json                         remember whole conversations
  evomem ingest notes/                             remember documents
  evomem search "Where do I live now?"             find the turns that answer
  evomem show                                      everything, in order

Also: correct, context, ask, influence, stats, verify, train, purge, expire, drop, reencode, reread, backup, restore,
export, anchor, compact, doctor, serve, fleet, inspect, keys, mcp, hooks.
For the help of a command: evomem search --help
"""

EXITS = """\
exit codes: 0 done, 1 nothing found or faults found, 2 wrong usage or bad input,
3 the database or the encoder could not be used, 130 stopped with Ctrl-C
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; `args.command` is None if there is no command."""
    parser = argparse.ArgumentParser(
        prog="evomem",
        description=TOUR,
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"evomem {evomem.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    add_writing(commands, _command)
    add_reading(commands, _command)
    for add in (_stats, _verify, _train, _demo):
        add(commands)
    add_upkeep(commands, _command)
    add_serve(commands, _command)
    add_fleet(commands, _parser, _command)
    add_inspect(commands, _command)
    add_keys(commands, _parser, _command)
    add_mcp(commands, _command)
    add_hooks(commands, _command)
    return parser


def _command(
    commands: Any, name: str, summary: str, sentence: str, examples: str, **common: Any
) -> argparse.ArgumentParser:
    parser = _parser(commands, name, summary, sentence, examples)
    _common(parser, **common)
    return parser


def _parser(
    commands: Any, name: str, summary: str, sentence: str, examples: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=sentence,
        epilog=f"examples:\n{examples}\n\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _common(parser: argparse.ArgumentParser, *, db: str | None = "./evomem.db") -> None:
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--db",
        metavar="PATH",
        default=db and os.environ.get("EVOMEM_DB", db),
        help="the database: a file, or a URL whose scheme names a store "
        + (f"(default: $EVOMEM_DB, or {db})" if db else "(default: a temporary one)"),
    )
    group.add_argument(
        "--memory",
        metavar="NAME",
        action="append",
        help="the memory; repeat it for each further label of the name, as in "
        f"--memory acme --memory alice (default: {'default' if db else 'demo'})",
    )
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="the encoder that reads turns, such as evoembedding:FOLDER-OR-HUB-ID (default: that of the "
        f"database; for a new one {DEFAULT_ENCODER})",
    )
    group.add_argument("--device", help="where the encoder runs, such as cpu or cuda")
    group.add_argument(
        "--json", action="store_true", help="write JSON, and nothing else, to stdout"
    )


def _stats(commands: Any) -> None:
    _command(
        commands,
        "stats",
        "count memories, turns and bytes",
        "Show the database's encoder, its size, and how many turns each memory holds.",
        "  evomem stats\n  evomem stats --db agent.db --json",
    )


def _verify(commands: Any) -> None:
    parser = _command(
        commands,
        "verify",
        "check the database for damage",
        "Check the log, its seals and the index files, and print each fault.",
        "  evomem verify\n  evomem verify --db agent.db && echo sound\n  evomem verify --repair\n"
        "  evomem verify --anchor /elsewhere/agent.anchor",
    )
    parser.add_argument(
        "--anchor",
        metavar="FILE",
        help="also check that the database continues what evomem anchor wrote to this file",
    )
    parser.add_argument(
        "--repair", action="store_true", help="first repair what can be rebuilt from the log"
    )


def _train(commands: Any) -> None:
    add_arguments(
        _parser(commands, "train", "teach an encoder your own conversations", SENTENCE, EXAMPLES)
    )


def _demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "watch it remember eight weeks of a life",
        "Add the story that ships with evomem to a new memory, and ask questions whose answer depends "
        "on the order of events, with and without memory.",
        "  evomem demo\n  evomem demo --all --encoder evoembedding:MiG-NJU/EvoEmbedding-0.8B",
        db=None,
    )
    parser.add_argument("--all", action="store_true", help="ask all questions instead of a few")
