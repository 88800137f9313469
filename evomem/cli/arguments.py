"""The arguments of every command, and their help."""

from __future__ import annotations

import argparse
import json
import os
from datetime import tzinfo
from typing import Any

import evomem
from evomem.checks import MODES, ROLES, check_zone
from evomem.cli.hooks import add_hooks
from evomem.cli.mcp import add_mcp
from evomem.cli.service_arguments import add_inspect, add_keys, add_serve
from evomem.cli.train import EXAMPLES, SENTENCE, add_arguments
from evomem.cli.upkeep_arguments import add_upkeep, source_label
from evomem.errors import QueryError
from evomem.plugins import DEFAULT_ENCODER

TOUR = """\
evomem stores conversations in order and finds turns by meaning.

  evomem demo                                      watch it remember eight weeks of a life
  evomem add "I moved to Oslo last week."          remember one turn (in ./evomem.db)
  evomem import chats.json                         remember whole conversations
  evomem search "Where do I live now?"             find the turns that answer
  evomem show                                      everything, in order

Also: correct, influence, stats, verify, train, purge, expire, drop, reencode, reread, backup, restore, export,
anchor, compact, doctor, serve, inspect, keys, mcp, hooks.
For the help of a command: evomem search --help
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
    for add in (
        _add,
        _correct,
        _import,
        _search,
        _show,
        _influence,
        _stats,
        _verify,
        _train,
        _demo,
    ):
        add(commands)
    add_upkeep(commands, _command)
    add_serve(commands, _command)
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


def _add(commands: Any) -> None:
    parser = _command(
        commands,
        "add",
        "remember one turn",
        "Read one turn in the light of the turns before it, and store it.",
        '  evomem add "I moved to Oslo last week." --session monday\n'
        "  pbpaste | evomem add - --metadata topic=travel",
    )
    parser.add_argument("text", metavar="TEXT", help="what was said; - reads it from stdin")
    parser.add_argument("--reply", metavar="TEXT", help="the assistant's answer to it")
    parser.add_argument("--role", choices=ROLES[:2], default="user", help="who said it")
    parser.add_argument("--speaker", metavar="NAME", help='a name to show instead of "User"')
    parser.add_argument(
        "--id", help="the turn's id; adding the same id and text again changes nothing"
    )
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


def _correct(commands: Any) -> None:
    parser = _command(
        commands,
        "correct",
        "store what a turn should have said",
        "Store a turn that holds in the place of an earlier one from now on. The earlier one stays: "
        "searches name it with the new one, and evomem show --all lists it.",
        '  evomem correct dose "I take 20 mg a day."\n'
        '  evomem correct turn-17 "We meet on Friday." --reply "Friday it is."',
    )
    parser.add_argument("id", metavar="ID", help="the turn, as evomem show --json names it")
    parser.add_argument("text", metavar="TEXT", help="what holds instead; - reads it from stdin")
    parser.add_argument("--reply", metavar="TEXT", help="the assistant's answer to it")
    parser.add_argument("--time", help="when it was said, such as 2024-03-05T14:30:00+00:00")
    parser.add_argument("--source", metavar="LABEL", help="who or what it came from, such as web")


def _import(commands: Any) -> None:
    parser = _command(
        commands,
        "import",
        "remember chat files",
        "Read conversations as chat programs, model APIs and agent libraries write them, and store "
        "what is new in them. Import a conversation that continues as often as you like: nothing is "
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
        help="bring back turns that were purged (default: they stay forgotten)",
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="put each file into a memory of its own, named after the file and below --memory if that "
        "is given; many are read at once",
    )
    parser.add_argument(
        "--source",
        metavar="LABEL",
        help="the label of the turns' source, such as import:chats.json (default: no source)",
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
        help="hybrid: vectors, words, time and session; evolvable: the encoder's vectors only; "
        "lexical: shared words only (BM25)",
    )
    parser.add_argument("--since", metavar="TIME", help="only turns said at this time or later")
    parser.add_argument("--until", metavar="TIME", help="only turns said before this time")
    parser.add_argument("--session", metavar="ID", help="only turns of this session")
    parser.add_argument("--speaker", metavar="NAME", help="only turns by this speaker")
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
    parser.add_argument("--role", choices=ROLES, help="only turns of this kind")
    parser.add_argument(
        "--where",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help=f"only turns with this metadata: {_PAIR_HELP}; operators are JSON, as in "
        """'stars={"$gte": 4}'""",
    )
    _past(parser)
    parser.add_argument(
        "--now",
        metavar="TIME",
        help='when the question is asked, which "yesterday" counts from, such as 2024-03-05T14:30 '
        "(default: now; with --at, the time of the newest turn)",
    )
    _timezone(parser)


def _show(commands: Any) -> None:
    parser = _command(
        commands,
        "show",
        "show the timeline",
        "Show a memory's turns in the order in which they were added.",
        "  evomem show --limit 20\n  evomem show --after 20 --limit 20 --memory acme --memory alice",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, help="the largest number of turns to show"
    )
    parser.add_argument(
        "--after", metavar="SEQ", type=int, default=0, help="only turns after this one"
    )
    parser.add_argument("--session", metavar="ID", help="only turns of this session")
    parser.add_argument(
        "--all", action="store_true", help="also turns that were replaced, as by evomem correct"
    )
    parser.add_argument("--speaker", metavar="NAME", help="only turns by this speaker")
    _source_filters(parser)
    _past(parser)
    _timezone(parser)


def _past(parser: argparse.ArgumentParser) -> None:
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--at",
        metavar="POINT",
        help="the memory as of a point: the number of a turn, which ends it, or a time such as "
        "2024-03-05T14:30, with what was said by then whenever it was added",
    )
    point.add_argument(
        "--added", metavar="TIME", help="the memory as of a time: with what had been added by then"
    )


def _timezone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timezone",
        metavar="ZONE",
        type=_zone,
        help="the time zone of days and of the times shown, such as Europe/Berlin or UTC "
        "(default: the system's)",
    )


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
        "show which turns and answers a turn has influenced",
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
        "Tell a new memory the story that ships with evomem, and ask questions whose answer depends "
        "on the order of things, with and without memory.",
        "  evomem demo\n  evomem demo --all --encoder evoembedding:MiG-NJU/EvoEmbedding-0.8B",
        db=None,
    )
    parser.add_argument("--all", action="store_true", help="ask all questions instead of a few")


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


def _zone(name: str) -> tzinfo:
    try:
        return check_zone(name)
    except QueryError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
