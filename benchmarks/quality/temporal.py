"""Do embeddings encode positions in time? "First", "middle" and "last" compared with position.

Sixteen mentions of one topic are spread over each history. For questions about the first, the middle and
the last of them, the mentions' similarities are plotted against their positions, and every mention is
plotted as a point in two dimensions, conditioned on the question.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.quality.intervals import Interval, Resampling
from benchmarks.quality.temporal_histories import MENTIONS, QUERIES, History, make_histories
from benchmarks.reporting.output import positive, setting, table, write_json
from benchmarks.reporting.plots import draw_curves, draw_map
from benchmarks.systems.encoders import Encoders, read_all
from evomem import Encoder
from evomem.errors import EvomemError
from evomem.plugins import DEFAULT_ENCODER
from evomem.state import Vectors

SEED = 20_261_121


@dataclass(frozen=True)
class Embedded:
    """An encoder's embeddings of the mentions and questions of every history."""

    mentions: Vectors  # (histories, MENTIONS, D)
    queries: dict[str, Vectors]  # kind → (histories, D)

    def similarity(self, kind: str) -> Vectors:
        """Return the cosine of every mention minus its history's mean: (histories, MENTIONS)."""
        cosines = np.einsum("hmd,hd->hm", self.mentions, self.queries[kind])
        centred: Vectors = cosines - cosines.mean(1, keepdims=True)
        return centred

    def conditioned(self) -> dict[str, Vectors]:
        """Return every mention, conditioned on the question, in two dimensions: kind → (mentions, 2).

        The elementwise product of mention and question sums to their cosine. The mean of each history
        is subtracted, which removes the topic. The plane has the two largest variances over all kinds.
        """
        products = [self.mentions * self.queries[kind][:, None] for kind in QUERIES]
        rows = np.concatenate([p - p.mean(1, keepdims=True) for p in products])
        flat = rows.reshape(-1, rows.shape[-1])
        axes = np.linalg.svd(flat, full_matrices=False)[2][:2]  # (2, D)
        return dict(zip(QUERIES, np.split(flat @ axes.T, len(QUERIES)), strict=True))


def embed(encoder: Encoder, histories: Sequence[History], name: str) -> Embedded:
    """Read every history, and embed its questions after the last turn."""
    mentions, queries = [], []
    for history in track(histories, name, transient=True):
        vectors, state = read_all(encoder, history.turns)
        mentions.append(vectors[list(history.mentions)])
        queries.append(encoder.embed_queries(state, list(history.queries.values())))
    stacked = np.stack(queries)  # (histories, kinds, D)
    return Embedded(np.stack(mentions), {kind: stacked[:, n] for n, kind in enumerate(QUERIES)})


def separations(embedded: Embedded) -> dict[str, Interval]:
    """Return the AUC of separating the third of the mentions that a question asks for from the others.

    "first" separates the early third from the late one, "last" the late from the early, and "middle" the
    middle third from both. 0.5 is chance, 1 is perfect; "order" is the mean of "first" and "last".
    """
    third = MENTIONS // 3
    early, late = slice(0, third), slice(MENTIONS - third, MENTIONS)
    middle, outer = slice(third, MENTIONS - third), np.r_[early, late]
    contrasts = {"first": (early, late), "last": (late, early), "middle": (middle, outer)}
    values = {
        kind: [_auc(row[matching], row[others]) for row in embedded.similarity(kind)]
        for kind, (matching, others) in contrasts.items()
    }
    values["order"] = [(a + b) / 2 for a, b in zip(values["first"], values["last"], strict=True)]
    count = len(embedded.mentions)
    resampling = Resampling([str(n) for n in range(count)], [""] * count)
    return {kind: resampling.interval(value) for kind, value in values.items()}


def _auc(matching: Vectors, others: Vectors) -> float:
    """Return the share of pairs in which the matching value is higher; ties count half."""
    gap = matching[:, None] - others[None]
    return float((gap > 0).mean() + (gap == 0).mean() / 2)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    if options.segments < 2 * MENTIONS:
        _parser().error(f"--segments must be at least {2 * MENTIONS}, got {options.segments}")
    result: dict[str, Any] = {**setting("temporal", argv), "seed": options.seed, "encoders": {}}
    encoders, rows = Encoders(options.device), []
    try:
        histories = make_histories(options.histories, options.segments, options.seed)
        for name in options.encoder or [DEFAULT_ENCODER, "mini"]:
            embedded = embed(encoders[name], histories, name)
            intervals = separations(embedded)
            rows.append([name, *(str(intervals[kind]) for kind in (*QUERIES, "order"))])
            result["encoders"][name] = {
                "auc": {kind: [i.mean, i.low, i.high] for kind, i in intervals.items()},
                "curves": {
                    kind: np.round(embedded.similarity(kind).mean(0), 5).tolist()
                    for kind in QUERIES
                },
            }
            if options.out:
                places = np.tile(np.linspace(0, 1, MENTIONS), len(histories))
                path = options.out / f"temporal_map_{len(rows)}.png"
                draw_map(embedded.conditioned(), places, name, path)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(["AUC, %", *QUERIES, "order"], rows))
    if options.out:
        draw_curves(
            {name: encoder["curves"] for name, encoder in result["encoders"].items()},
            options.out / "temporal.svg",
        )
        write_json(options.out / "temporal.json", result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks temporal", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help=f"may be repeated; {DEFAULT_ENCODER} and mini if not given",
    )
    parser.add_argument("--device", help="where encoders run, such as cuda")
    parser.add_argument("--histories", type=positive, default=64, metavar="N")
    parser.add_argument(
        "--segments", type=positive, default=256, metavar="N", help="turns per history"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for temporal.json, temporal.svg and a map per encoder",
    )
    return parser
