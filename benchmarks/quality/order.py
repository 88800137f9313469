"""Does an encoder distinguish the first value from the latest? On held-out histories without text overlap.

Pairs: of the first and the last mention of a changing value, the right one has to be nearer to a question
for the first (or latest) value. Evolvability: the same question has to find the old turn before an
update, and to rank the new turn above it afterwards.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.datasets.evotrain import as_turn
from benchmarks.reporting.output import finish, setting, table
from benchmarks.systems.encoders import Encoders
from evomem import Encoder, Turn
from evomem.state import State, Vectors
from evomem.training.corpora import streams
from evomem.training.dialogues import sgd
from evomem.training.histories import History
from evomem.training.stories import stories

HELD_OUT_SEED = 9_000_001  # not used by any training run
TRAINING_STREAMS = 4000  # streams of SGD that training may use; the test streams are far after them
ENCODERS = ("mini", "mini?turns=0")
KINDS = ("first", "latest", "before", "after", "evolves")


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("order", argv), "sets": {}}

    def run() -> None:
        encoders = Encoders(options.device)
        for name, histories in held_out(options).items():
            result["sets"][name] = {
                row: measure(encoders[row], histories, row) for row in options.encoder or ENCODERS
            }
        for name, figures in result["sets"].items():
            print(f"\n{name}")
            head = ["encoder", *KINDS]
            cells = [[row, *(f"{100 * m[c]:.1f}" for c in KINDS)] for row, m in figures.items()]
            print(table(head, cells), flush=True)

    return finish(result, options.out, run)


def held_out(options: argparse.Namespace) -> dict[str, list[History]]:
    """Return named sets of histories that no training run has seen."""
    count = options.histories
    sets = {
        "stories of 56 turns": stories(count, 56, HELD_OUT_SEED),
        "stories of 300 turns": stories(max(1, count // 4), 300, HELD_OUT_SEED + 1),
    }
    if options.corpora:
        unseen = islice(streams(options.corpora / "sgd.jsonl.xz"), 3 * TRAINING_STREAMS, None)
        dialogues = sgd(list(islice(unseen, 400)), Random(HELD_OUT_SEED))
        sets["SGD, unseen dialogues"] = list(islice(dialogues, count))
    return sets


def measure(encoder: Encoder, histories: Sequence[History], name: str) -> dict[str, float]:
    """Return the share of correct answers for each kind of question."""
    correct: dict[str, list[float]] = defaultdict(list)
    for history in track(histories, name, transient=True):
        turns = [as_turn(text) for text in history.turns]
        state: State[Turn] = State.empty(encoder.spec)
        states = [state]
        readings = encoder.read(state, turns)
        for turn, reading in zip(turns, readings, strict=True):
            states.append(states[-1].after(turn, reading))
        vectors: Vectors = np.stack([reading.embedding for reading in readings])  # (N, D)
        for question in history.questions:
            if question.kind not in KINDS or not question.rivals:
                continue
            answer, rivals = question.evidence[-1], list(question.rivals)
            scores = vectors @ encoder.embed_queries(states[-1], [question.text])[0]
            if question.kind in ("first", "latest"):
                rivals = [rivals[-1] if question.kind == "first" else rivals[0]]
            is_correct = float(scores[answer] > max(scores[rival] for rival in rivals))
            correct[question.kind].append(is_correct)
            if question.kind == "latest":
                before = (
                    vectors[:answer] @ encoder.embed_queries(states[answer], [question.text])[0]
                )
                finds_old = int(before.argmax()) in question.rivals
                correct["evolves"].append(float(is_correct and finds_old))
    return {kind: sum(correct[kind]) / max(1, len(correct[kind])) for kind in KINDS}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks order", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help=f"may be repeated; {' and '.join(ENCODERS)} if not given",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--corpora", type=Path, help="folder with sgd.jsonl.xz")
    parser.add_argument("--histories", type=int, default=60, help="histories per set")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results here as JSON")
    return parser
