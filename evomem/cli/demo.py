"""The demo on screen: both sides next to each other, and the meaning of the figures."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import evomem
from evomem.cli.opening import open_database
from evomem.cli.screen import Screen, plain
from evomem.database import Database
from evomem.demo import Report, Side, compare, load_questions
from evomem.demo.compare import Answer, K, RatedHit

MARKS = {"right": ("✓", "bold green"), "wrong": ("✗", "red"), "": ("·", "dim")}
NO_ORDER = (
    "{encoder} has no memory of order: it embeds each text alone, so with and without memory are "
    "the same. Shown in their place: its vectors alone, and hybrid (vectors and shared words)."
)
ORDER = "Without memory: the same encoder reads each text as if it were the first it ever read."


def run_demo(args: Namespace, screen: Screen) -> int:
    """Add the story, ask the questions, show both sides."""
    questions = load_questions()
    chosen = questions if args.all else [question for question in questions if question.featured]
    with screen.progress() as progress:
        progress("loading the encoder", 0, 1)
        with _database(args, screen) as db:
            report = compare(db, db.memory(*(args.memory or ["demo"])), chosen, progress)
    if screen.as_json:
        screen.result(_to_json(report))
        return 0
    screen.out.print(_opening(report))
    for answer in report.answers:
        screen.out.print(_question(answer, report))
    screen.out.print(_totals(report))
    screen.out.print(_closing(report, args, more=len(questions) - len(chosen)), soft_wrap=True)
    return 0


@contextmanager
def _database(args: Namespace, screen: Screen) -> Iterator[Database]:
    """Open the given database, or a temporary one on disk."""
    if args.db is not None:
        with open_database(args, screen, create=True) as db:
            yield db
        return
    with tempfile.TemporaryDirectory(prefix="evomem-demo-") as folder:
        path = str(Path(folder) / "demo.db")
        with evomem.open(path, args.encoder, device=args.device) as db:
            yield db


def _opening(report: Report) -> Text:
    text = Text.assemble(
        f"\nTess told her assistant {report.turns} things in eight weeks. She moved twice, changed "
        "jobs, renamed a dog. Now she asks.\n",
        f"Encoder: {report.encoder}. ",
        MARKS["right"],
        " answers the question, ",
        MARKS["wrong"],
        " tempting but of another time, ",
        MARKS[""],
        " something else.\n",
    )
    if report.remembers:
        return text.append(ORDER + "\n")
    return text.append(NO_ORDER.format(encoder=report.encoder) + "\n", "yellow")


def _question(answer: Answer, report: Report) -> Table:
    question = answer.question
    title = Text.assemble((question.question, "bold"), f"   {question.answer}")
    if question.at:
        title.append(
            f"\nasked back on {answer.asked.time.day} {answer.asked.time:%B}, turn {answer.asked.seq}",
            "cyan",
        )
    table = Table(title=title, title_justify="left", title_style="", expand=True, box=None)
    for side in report.sides:
        table.add_column(side, header_style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
    for hits in zip(*(answer.hits[side] for side in report.sides), strict=True):
        table.add_row(*map(_hit, hits))
    table.add_row()
    return table


def _hit(hit: RatedHit) -> Text:
    text = " ".join(plain(hit.record.turn.user).split())
    return Text.assemble(
        MARKS[hit.verdict], f" {hit.score:.2f} {hit.record.time:%d %b} ", (text, "dim")
    )


def _totals(report: Report) -> Table:
    count = len(report.answers)
    table = Table(box=None, title=f"Of {count} questions", title_justify="left", pad_edge=False)
    for name in ("", "right turn first", f"in the top {K}", "misled: ✗ first"):
        table.add_column(name, justify="right" if name else "left", header_style="dim")
    for side in report.sides:
        counts = (report.right(side, 1), report.right(side, K), report.misled(side))
        table.add_row(side, *map(str, counts))
    return table


def _closing(report: Report, args: Namespace, *, more: int) -> Text:
    speed = f"{1000 * report.seconds_per_query:.1f} ms a query"
    if report.seconds_per_turn is not None:
        speed = f"{1000 * report.seconds_per_turn:.1f} ms a turn (read and stored), {speed}"
    tries = []
    if more:
        tries.append(("evomem demo --all", f"asks {more} more questions"))
    if not report.remembers:
        tries.append(("evomem demo --encoder evoembedding:<folder or hub id>", "remembers order"))
    if args.db is None:
        tries.append(("evomem demo --db tess.db", "keeps the story; ask it yourself:"))
    memory = " ".join(f"--memory {label}" for label in args.memory or ["demo"])
    tries.append((f'evomem search "Where do I climb?" --db {args.db or "tess.db"} {memory}', ""))
    lines = [f"  {command:56}{what}".rstrip() for command, what in tries]
    return Text("\n".join(["", speed, "", "Next:", *lines]))


def _to_json(report: Report) -> dict[str, Any]:
    return {
        "encoder": report.encoder,
        "remembers": report.remembers,
        "turns": report.turns,
        "seconds_per_turn": report.seconds_per_turn,
        "seconds_per_query": report.seconds_per_query,
        "totals": {side: _side_totals(report, side) for side in report.sides},
        "questions": [
            {
                "question": answer.question.question,
                "answer": answer.question.answer,
                "at": answer.question.at,
                "hits": {
                    side: [
                        {
                            "id": hit.record.id,
                            "seq": hit.record.seq,
                            "score": hit.score,
                            "verdict": hit.verdict or None,
                            "text": hit.record.text,
                        }
                        for hit in hits
                    ]
                    for side, hits in answer.hits.items()
                },
            }
            for answer in report.answers
        ],
    }


def _side_totals(report: Report, side: Side) -> dict[str, int]:
    return {
        "questions": len(report.answers),
        "right_first": report.right(side, 1),
        f"right_in_top_{K}": report.right(side, K),
        "misled": report.misled(side),
    }
