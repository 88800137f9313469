"""How far one turn reaches: what later turns and answers are without it, by distance in turns.

    python -m benchmarks influence --encoder mini --turns 96

The story that ships with evomem is read with and without one turn; the later turns' embeddings are
compared, and so are the answers to its questions as of each distance. Means over several turns that
are left out. Zero means: not a bit of the turn is left in what came so much later.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.reporting.output import machine, setting, table, write_json
from evomem.demo.story import load_questions, load_story
from evomem.encoder import Encoder
from evomem.plugins import load_encoder
from evomem.records import Turn
from evomem.state import State, Vectors

EDGES = (1, 2, 3, 5, 9, 17, 33, 65, 129)
K = 10


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks influence", description=__doc__)
    parser.add_argument("--encoder", default="mini", help="as for evomem.open")
    parser.add_argument("--turns", type=int, default=96, help="of the story, repeated if need be")
    parser.add_argument("--gone", type=int, default=4, help="how many turns are left out, in turn")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    encoder = load_encoder(options.encoder)
    turns, queries = story(options.turns)
    rows = measure(encoder, turns, queries, options.gone)
    print(f"influence · {encoder.spec.name} · {len(turns)} turns · {machine()}")
    head = ["distance", "1 - cosine, mean", "max", "answers changed %", "top 10 changed %"]
    print(table(head, [[str(row["distance"]), *_figures(row)] for row in rows]))
    result = {**setting("influence", argv), "rows": rows}
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    return 0


def story(count: int) -> tuple[list[Turn], list[str]]:
    """Return that many turns, and questions."""
    told = load_story()
    turns = [told[n % len(told)] for n in range(count)]
    return turns, [question.question for question in load_questions()][:10]


def measure(
    encoder: Encoder, turns: Sequence[Turn], queries: Sequence[str], gone: int
) -> list[dict[str, float | str]]:
    """Return one row for each range of distances."""
    vectors, answers = read(encoder, turns, queries)
    changes: dict[int, list[float]] = {}
    first: dict[int, list[float]] = {}
    top: dict[int, list[float]] = {}
    for left_out in range(gone):
        remaining = [turn for place, turn in enumerate(turns) if place != left_out]
        without, others = read(encoder, remaining, queries)
        for place in range(left_out + 1, len(turns)):
            distance = place - left_out
            difference = 1 - float(vectors[place] @ without[place - 1])
            changes.setdefault(distance, []).append(max(difference, 0.0))
            for query in range(len(queries)):
                # Only turns that both know, ranked by either's vectors.
                known = [n for n in range(place + 1) if n != left_out]
                before = ranked(answers[place][query], vectors[known])
                other = ranked(others[place - 1][query], without[:place])
                first.setdefault(distance, []).append(float(before[0] != other[0]))
                top.setdefault(distance, []).append(float(set(before[:K]) != set(other[:K])))
    rows: list[dict[str, float | str]] = []
    for start, end in pairwise(EDGES):
        inside = [distance for distance in changes if start <= distance < end]
        if not inside:
            continue
        values = np.concatenate([changes[distance] for distance in inside])
        rows.append(
            {
                "distance": str(start) if end == start + 1 else f"{start}-{end - 1}",
                "mean": float(values.mean()),
                "max": float(values.max()),
                "answers": 100 * float(np.mean([x for d in inside for x in first[d]])),
                "top": 100 * float(np.mean([x for d in inside for x in top[d]])),
            }
        )
    return rows


def read(
    encoder: Encoder, turns: Sequence[Turn], queries: Sequence[str]
) -> tuple[Vectors, list[Vectors]]:
    """Return the turns' embeddings (N, D), and the queries' after each turn, (Q, D) each."""
    state: State[Turn] = State.empty(encoder.spec)
    embeddings, asked = [], []
    for turn in turns:
        [reading] = encoder.read(state, [turn])
        state = state.after(turn, reading)
        embeddings.append(reading.embedding)
        asked.append(encoder.embed_queries(state, queries))
    return np.stack(embeddings), asked


def ranked(query: Vectors, rows: Vectors) -> list[int]:
    """Return places, best first."""
    return [int(place) for place in np.argsort(-(rows @ query), kind="stable")]


def _figures(row: dict[str, float | str]) -> list[str]:
    return [f"{float(row[name]):.2g}" for name in ("mean", "max")] + [
        f"{float(row[name]):.1f}" for name in ("answers", "top")
    ]
