"""The influence of one turn on later embeddings and answers, by distance in turns.

    python -m benchmarks influence --encoder mini --turns 96

The story that ships with evomem is read with and without one turn. The embeddings of later turns and the
answers to the story's questions are compared at each distance. The figures are means over several omitted
turns. Zero means that the turn has no influence at that distance.
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

BIN_EDGES = (1, 2, 3, 5, 9, 17, 33, 65, 129)  # of distances in turns
K = 10


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks influence", description=__doc__)
    parser.add_argument("--encoder", default="mini", help="as for evomem.open")
    parser.add_argument(
        "--turns", type=int, default=96, help="turns of the story, which is repeated if necessary"
    )
    parser.add_argument("--gone", type=int, default=4, help="turns to omit, one per reading")
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
    """Return `count` turns of the story, and ten questions about it."""
    story_turns = load_story()
    turns = [story_turns[n % len(story_turns)] for n in range(count)]
    return turns, [question.question for question in load_questions()][:10]


def measure(
    encoder: Encoder, turns: Sequence[Turn], queries: Sequence[str], omissions: int
) -> list[dict[str, float | str]]:
    """Return one row for each range of distances; the first `omissions` turns are omitted in turn."""
    vectors, answers = read(encoder, turns, queries)
    changes: dict[int, list[float]] = {}
    first: dict[int, list[float]] = {}
    top: dict[int, list[float]] = {}
    for omitted in range(omissions):
        remaining = [turn for place, turn in enumerate(turns) if place != omitted]
        changed_vectors, changed_answers = read(encoder, remaining, queries)
        for place in range(omitted + 1, len(turns)):
            distance = place - omitted
            difference = 1 - float(vectors[place] @ changed_vectors[place - 1])
            changes.setdefault(distance, []).append(max(difference, 0.0))
            for query in range(len(queries)):
                # Both rankings are of the same turns: those other than the omitted one.
                shared = [n for n in range(place + 1) if n != omitted]
                before = ranked(answers[place][query], vectors[shared])
                after = ranked(changed_answers[place - 1][query], changed_vectors[:place])
                first.setdefault(distance, []).append(float(before[0] != after[0]))
                top.setdefault(distance, []).append(float(set(before[:K]) != set(after[:K])))
    rows: list[dict[str, float | str]] = []
    for start, end in pairwise(BIN_EDGES):
        distances = [distance for distance in changes if start <= distance < end]
        if not distances:
            continue
        values = np.concatenate([changes[distance] for distance in distances])
        rows.append(
            {
                "distance": str(start) if end == start + 1 else f"{start}-{end - 1}",
                "mean": float(values.mean()),
                "max": float(values.max()),
                "answers": 100 * float(np.mean([x for d in distances for x in first[d]])),
                "top": 100 * float(np.mean([x for d in distances for x in top[d]])),
            }
        )
    return rows


def read(
    encoder: Encoder, turns: Sequence[Turn], queries: Sequence[str]
) -> tuple[Vectors, list[Vectors]]:
    """Return the turns' embeddings, (N, D), and for each turn the queries' embeddings after it, (Q, D)."""
    state: State[Turn] = State.empty(encoder.spec)
    embeddings, query_embeddings = [], []
    for turn in turns:
        [reading] = encoder.read(state, [turn])
        state = state.after(turn, reading)
        embeddings.append(reading.embedding)
        query_embeddings.append(encoder.embed_queries(state, queries))
    return np.stack(embeddings), query_embeddings


def ranked(query: Vectors, rows: Vectors) -> list[int]:
    """Return the indices of the rows, best first."""
    return [int(place) for place in np.argsort(-(rows @ query), kind="stable")]


def _figures(row: dict[str, float | str]) -> list[str]:
    return [f"{float(row[name]):.2g}" for name in ("mean", "max")] + [
        f"{float(row[name]):.1f}" for name in ("answers", "top")
    ]
