"""The arguments of the commands that read turns: search, context, ask, show, influence."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from evomem.checks import MODES, ROLES
from evomem.cli.option_types import PAIR_HELP, pair, time_zone, weight
from evomem.cli.upkeep_arguments import source_label

Command = Callable[..., argparse.ArgumentParser]


def add_reading(commands: Any, command: Command) -> None:
    """Add the commands that read turns."""
    for add in (_search, _context, _ask, _show, _influence):
        add(commands, command)


def _search(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "search",
        "find the turns that answer a question",
        "Embed the question with the memory's present (or, with --at, past) state, and show "
        "the turns that answer it best.",
        '  evomem search "Where do I live now?" -k 3\n'
        '  evomem search "travel plans" --since 2024-03-01T00:00:00Z '
        "--where topic=travel",
    )
    parser.add_argument("-k", type=int, default=5, help="how many turns at most (default: 5)")
    _question(parser)


def _context(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "context",
        "print the turns for a question as text for a prompt",
        "Print the turns that answer a question best as text for a prompt: within a budget of "
        "tokens, one per line with time, session and id, oldest first.",
        '  evomem context "Where do I live now?" --max-tokens 500\n'
        '  evomem context "What did I eat yesterday?" --timezone Europe/Berlin',
    )
    _budget(parser)
    _question(parser)


def _ask(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "ask",
        "answer a question with a language model",
        "Show a language model the turns that answer a question best, and print its answer with the "
        "turns it names. Without --model, print what a model would be asked. With --model encoder, the "
        "memory's own EvoEmbedding model answers from its latents of the newest turns.",
        '  evomem ask "Where do I live now?"\n'
        '  evomem ask "How do I bleed the pump?" --model llama3.2 --url http://localhost:11434/v1\n'
        '  evomem ask "Where do I live now?" --model encoder',
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        default=os.environ.get("EVOMEM_MODEL"),
        help="the model's name at the endpoint, or 'encoder' (default: $EVOMEM_MODEL)",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        default=os.environ.get("OPENAI_BASE_URL"),
        help="an OpenAI-compatible endpoint, up to /v1; the key is read from $OPENAI_API_KEY "
        "(default: $OPENAI_BASE_URL, or OpenAI's)",
    )
    _budget(parser)
    parser.set_defaults(k=None, max_tokens=None)  # as `answer` has them, which differ by the model
    _question(parser)


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=int,
        default=2000,
        help="how many tokens of turns at most, as the encoder counts them (default: 2000)",
    )
    parser.add_argument(
        "-k", type=int, default=50, help="how many turns are considered (default: 50)"
    )


def _show(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "show",
        "show the timeline",
        "Show a memory's turns in the order in which they were added.",
        "  evomem show --limit 20\n  evomem show --after 20 --limit 20 --memory acme --memory alice",
    )
    parser.add_argument("--limit", metavar="N", type=int, help="maximum number of turns to show")
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


def _influence(commands: Any, command: Command) -> None:
    parser = command(
        commands,
        "influence",
        "show which turns and answers a turn has influenced",
        "Show which later turns a turn has influenced, and which answers were written "
        "with it in the prompt, in its memory and in forks of it.",
        "  evomem influence turn-17\n  evomem influence turn-17 --json",
    )
    parser.add_argument("id", metavar="ID", help="the turn, as evomem show --json names it")


def _question(parser: argparse.ArgumentParser) -> None:
    """Add a question and its filters."""
    parser.add_argument("query", metavar="QUESTION", help="the question")
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
        type=weight,
        action="append",
        default=[],
        help="lower the scores of a source, as in web=0.5, or =0.8 for turns without one; may be "
        "repeated",
    )
    parser.add_argument(
        "--min-relevance",
        metavar="P",
        type=float,
        help="leave out hits that are less likely to answer the question, from 0 to 1",
    )
    parser.add_argument(
        "--reranker",
        metavar="MODEL",
        help="order the best hits with this model: the folder or hub id of a cross-encoder, or an "
        "encoder's name",
    )
    parser.add_argument(
        "--rerank",
        action="store_true",
        help="order the best hits with the re-ranker of the service that --db names",
    )
    parser.add_argument("--role", choices=ROLES, help="only turns of this kind")
    parser.add_argument(
        "--where",
        metavar="KEY=VALUE",
        type=pair,
        action="append",
        default=[],
        help=f"only turns with this metadata: {PAIR_HELP}; operators are JSON, as in "
        """'stars={"$gte": 4}'""",
    )
    _past(parser)
    parser.add_argument(
        "--now",
        metavar="TIME",
        help='the time of the question, to which "yesterday" is relative, such as 2024-03-05T14:30 '
        "(default: now; with --at, the time of the newest turn)",
    )
    _timezone(parser)


def _past(parser: argparse.ArgumentParser) -> None:
    point = parser.add_mutually_exclusive_group()
    point.add_argument(
        "--at",
        metavar="POINT",
        help="the memory as of a point: after the turn of this number, or at a time such as "
        "2024-03-05T14:30, with the turns said by then, whenever they were added",
    )
    point.add_argument(
        "--added", metavar="TIME", help="the memory as of a time, with the turns added by then"
    )


def _timezone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timezone",
        "--zone",
        metavar="ZONE",
        type=time_zone,
        help="the time zone of days and of the times shown, such as Europe/Berlin or UTC "
        "(default: the system's)",
    )


def _source_filters(parser: argparse.ArgumentParser) -> None:
    more = 'may be repeated; "" stands for turns without a source'
    for name, which in (("--source", "only turns"), ("--not-source", "no turns")):
        parser.add_argument(
            name,
            metavar="LABEL",
            type=source_label,
            action="append",
            help=f"{which} of this source; {more}",
        )
