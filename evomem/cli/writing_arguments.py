"""The arguments of the commands that write turns: add, correct, import, ingest."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from evomem.checks import ROLES
from evomem.cli.option_types import PAIR_HELP, pair, time_zone

Command = Callable[..., argparse.ArgumentParser]


def add_writing(commands: Any, command: Command) -> None:
    """Add the commands that write turns."""
    for add in (_add, _correct, _import, _ingest):
        add(commands, command)


def _add(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "add",
        "remember one turn",
        "Read one turn in the context of the turns before it, and store it.",
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
        help="a turn that was in the prompt of the answer; may be repeated",
    )
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", type=pair, action="append", default=[], help=PAIR_HELP
    )


def _correct(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "correct",
        "replace a turn with a corrected one",
        "Store a turn that replaces an earlier one. The earlier one is kept: "
        "searches show it with the new one, and evomem show --all lists it.",
        '  evomem correct dose "I take 20 mg a day."\n'
        '  evomem correct turn-17 "We meet on Friday." --reply "Friday it is."',
    )
    parser.add_argument("id", metavar="ID", help="the turn, as evomem show --json names it")
    parser.add_argument("text", metavar="TEXT", help="the corrected text; - reads it from stdin")
    parser.add_argument("--reply", metavar="TEXT", help="the assistant's answer to it")
    parser.add_argument("--time", help="when it was said, such as 2024-03-05T14:30:00+00:00")
    parser.add_argument("--source", metavar="LABEL", help="who or what it came from, such as web")


def _import(commands: Any, command: Command) -> None:
    parser = command(
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
    parser.add_argument(
        "--formats", action="store_true", help="list the formats that can be read, and exit"
    )
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
        "--since", metavar="TIME", help="leave out messages said before this time, as in 2024-03-01"
    )
    parser.add_argument(
        "--include-forgotten",
        action="store_true",
        help="also import turns that were purged (default: they stay forgotten)",
    )
    parser.add_argument(
        "--each",
        action="store_true",
        help="put each file into a separate memory, named after the file and below --memory if that "
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
        type=time_zone,
        help="the time zone of times that name none, such as Europe/Berlin or UTC "
        "(default: such times are refused)",
    )


def _ingest(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "ingest",
        "remember documents",
        "Read Markdown, text, HTML, PDF and Word files, cut them into passages, and store each as a "
        "turn. Ingest files that change as often as you like: only what changed is read again.",
        "  evomem ingest manual.pdf\n"
        "  evomem ingest notes/ --forget-missing\n"
        "  evomem ingest notes/ --dry-run --json",
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file or a folder")
    parser.add_argument(
        "--forget-missing",
        action="store_true",
        help="purge documents below the given folders whose files are gone; refused if no document is "
        "left in a folder, which may be a file system that is not mounted",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing; show what would change"
    )
    parser.add_argument(
        "--source",
        metavar="LABEL",
        default="document",
        help="the label of the passages' source (default: document)",
    )
    parser.add_argument(
        "--length",
        metavar="N",
        type=int,
        default=900,
        help="characters of a passage, at most (default: 900)",
    )
