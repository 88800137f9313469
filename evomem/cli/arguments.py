"""The arguments of every command, and the help that teaches them."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any
from zoneinfo import ZoneInfo

import evomem
from evomem.checks import MODES, ROLES
from evomem.cli.service_arguments import add_keys, add_serve
from evomem.cli.train import EXAMPLES, SENTENCE, add_arguments
from evomem.cli.upkeep_arguments import add_upkeep, source_label
from evomem.plugins import DEFAULT_ENCODER

TOUR = """\
evomem keeps what was said, in order, and finds it again by meaning.

  evomem demo                                      watch it remember eight weeks of a life
  evomem add "I moved to Oslo last week."          remember one turn (in ./evomem.db)
  evomem import chats.json                         remember whole conversations
  evomem search "Where do I live now?"             find the turns that answer
  evomem show                                      everything, in order

Also: influence, stats, verify, train, purge, expire, drop, reencode, backup, restore, export, anchor,
serve, keys, compact, doctor.
Each explains itself: evomem search --help
"""

EXITS = """\
exit codes: 0 done, 1 nothing found or faults found, 2 wrong usage or bad input,
3 the database or the encoder could not be used, 130 stopped with Ctrl-C
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `args.command` is None without a command."""
    parser = argparse.ArgumentParser(
        prog="evomem",
        description=TOUR,
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"evomem {evomem.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (_add, _import, _search, _show, _influence, _stats, _verify, _train, _demo):
        add(commands)
    add_upkeep(commands, _command)
    add_serve(commands, _command)
    add_keys(commands, _parser, _command)
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
        + ("(default: $EVOMEM_DB, or ./evomem.db)" if db else "(default: one that is thrown away)"),
    )
    group.add_argument(
        "--memory",
        metavar="NAME",
        action="append",
        help="the memory; give it again for each further label of its name, as in "
        f"--memory acme --memory alice (default: {'default' if db else 'demo'})",
    )
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="what reads the turns, such as evoembedding:FOLDER-OR-HUB-ID (default: the database's "
        f"own; for a new one {DEFAULT_ENCODER})",
    )
    group.add_argument("--device", help="where the encoder runs, such as cpu or cuda")
    group.add_argument(
        "--json", action="store_true", help="write JSON, and nothing else, to stdout"
    )


def _add(commands: Any) -> None:
    parser = _command(
        commands,
        "add",
        "remember one turn",
        "Read one turn in the light of everything before it, and store it for good.",
        '  evomem add "I moved to Oslo last week." --session monday\n'
        "  pbpaste | evomem add - --metadata topic=travel",
    )
    parser.add_argument("text", metavar="TEXT", help="what was said; - reads it from stdin")
    parser.add_argument("--reply", metavar="TEXT", help="the assistant's answer to it")
    parser.add_argument("--role", choices=ROLES[:2], default="user", help="who said it")
    parser.add_argument("--speaker", metavar="NAME", help='a name to show instead of "User"')
    parser.add_argument("--id", help="a name for the turn; adding it again changes nothing")
    parser.add_argument("--time", help="when it was said, such as 2024-03-05T14:30:00+00:00")
    parser.add_argument("--session", metavar="ID", help="the conversation it belongs to")
    parser.add_argument("--source", metavar="LABEL", help="who or what it came from, such as web")
    parser.add_argument(
        "--recalled",
        metavar="ID",
        action="append",
        default=[],
        help="a turn that was in the prompt of the answer; may be given again",
    )
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", type=_pair, action="append", default=[], help=_PAIR_HELP
    )


def _import(commands: Any) -> None:
    parser = _command(
        commands,
        "import",
        "remember chat files",
        "Read conversations as chat programs, model APIs and agent libraries write them, and store "
        "what is new in them. Import a conversation that goes on as often as you like: nothing is "
        "stored twice.",
        "  evomem import chats.json --timezone Europe/Berlin\n"
        "  evomem import export.zip --dry-run\n"
        "  cat log.jsonl | evomem import - --memory acme --memory alice\n"
        "  evomem import users/*.jsonl --memory acme --each",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a file, a folder, a zip or gzip archive, a SQLite file; - reads stdin",
    )
    parser.add_argument("--formats", action="store_true", help="list what can be read, and stop")
    parser.add_argument(
        "--format", metavar="NAME", help="read as this format (default: the content decides)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing; show what would be stored, replaced and left out",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out messages that cannot be stored, and list them",
    )
    parser.add_argument(
        "--since", metavar="TIME", help="leave out messages that were said before, as in 2024-03-01"
    )
    parser.add_argument(
        "--include-forgotten",
        action="store_true",
        help="bring turns back that were purged (default: they stay forgotten)",
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="each file into a memory of its own, called as the file is and below --memory if that "
        "is given; many are read at once",
    )
    parser.add_argument(
        "--source",
        metavar="LABEL",
        help="what to label the turns with, such as import:chats.json (default: no source)",
    )
    parser.add_argument(
        "--timezone",
        metavar="ZONE",
        type=_zone,
        help="the time zone of times that name none, such as Europe/Berlin or UTC "
        "(default: such times are refused)",
    )


def _search(commands: Any) -> None:
    parser = _command(
        commands,
        "search",
        "find the turns that answer a question",
        "Embed the question in the light of the memory as it is now (or was, with --at), and show "
        "the turns that answer it best.",
        '  evomem search "Where do I live now?" -k 3\n'
        '  evomem search "travel plans" --since 2024-03-01T00:00:00Z '
        "--where topic=travel",
    )
    parser.add_argument("query", metavar="QUESTION", help="what you want to know")
    parser.add_argument("-k", type=int, default=5, help="how many turns at most (default: 5)")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="hybrid",
        help="hybrid: all that speaks for a turn; evolvable: the encoder's vectors alone; "
        "lexical: shared words alone (BM25)",
    )
    parser.add_argument("--since", metavar="TIME", help="only turns said then or later")
    parser.add_argument("--until", metavar="TIME", help="only turns said before then")
    parser.add_argument("--session", metavar="ID", help="only turns of this session")
    _source_filters(parser)
    parser.add_argument(
        "--trust",
        metavar="LABEL=WEIGHT",
        type=_weight,
        action="append",
        default=[],
        help="lower the scores of a source, as in web=0.5, or =0.8 for turns without one; may be "
        "given again",
    )
    parser.add_argument("--role", choices=ROLES, help="only turns where these speak")
    parser.add_argument(
        "--where",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help=f"only turns with this metadata: {_PAIR_HELP}",
    )
    parser.add_argument(
        "--at", metavar="SEQ", type=int, help="ask as of this turn: later ones are not known yet"
    )


def _show(commands: Any) -> None:
    parser = _command(
        commands,
        "show",
        "show the timeline",
        "Show a memory's turns in the order in which they were told.",
        "  evomem show --limit 20\n  evomem show --after 20 --limit 20 --memory acme --memory alice",
    )
    parser.add_argument("--limit", metavar="N", type=int, help="at most so many turns")
    parser.add_argument(
        "--after", metavar="SEQ", type=int, default=0, help="only turns behind this one"
    )
    parser.add_argument("--session", metavar="ID", help="only turns of this session")
    _source_filters(parser)


def _source_filters(parser: argparse.ArgumentParser) -> None:
    more = 'may be given again; "" stands for turns without a source'
    for name, which in (("--source", "only turns"), ("--not-source", "no turns")):
        parser.add_argument(
            name,
            metavar="LABEL",
            type=source_label,
            action="append",
            help=f"{which} of this source; {more}",
        )


def _influence(commands: Any) -> None:
    parser = _command(
        commands,
        "influence",
        "show what a turn had a part in",
        "Show which later turns were read in the light of a turn, and which answers were written "
        "with it in the prompt, in its memory and in forks of it.",
        "  evomem influence turn-17\n  evomem influence turn-17 --json",
    )
    parser.add_argument("id", metavar="ID", help="the turn, as evomem show --json names it")


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
        "--repair", action="store_true", help="first repair what can be had from the log again"
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
        "Tell a new memory the story that ships with evomem, and ask questions whose answer depends "
        "on the order of things, with and without memory.",
        "  evomem demo\n  evomem demo --all --encoder evoembedding:MiG-NJU/EvoEmbedding-0.8B",
        db=None,
    )
    parser.add_argument("--all", action="store_true", help="ask all questions, not a handful")


_PAIR_HELP = "a JSON value or a plain string, as in stars=5 or topic=travel; may be given again"


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in topic=travel")
    try:
        return key, json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        return key, value


def _weight(text: str) -> tuple[str | None, float]:
    label, equals, weight = text.rpartition("=")
    try:
        return source_label(label) if equals else None, float(weight if equals else "")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LABEL=WEIGHT, as in web=0.5") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(
            f"no time zone {name!r}; give one such as Europe/Berlin or UTC"
        ) from error
