"""Does an embedding know its place in time? "First", "middle" and "last" against position.

Sixteen mentions of one topic are spread over each history. For a question for the first, the middle
or the last of them, the mentions' similarities are drawn against their place, and every mention as
a point in two dimensions, conditioned on the question.
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
from benchmarks.quality.temporal_histories import MENTIONS, QUERIES, Told, tell
from benchmarks.reporting.output import positive, setting, table, write_json
from benchmarks.reporting.plots import draw_curves, draw_map
from benchmarks.systems.encoders import Encoders, read_all
from evomem import Encoder
from evomem.errors import EvomemError
from evomem.plugins import DEFAULT_ENCODER
from evomem.state import Vectors

SEED = 20_261_121


@dataclass(frozen=True)
class Seen:
    """What an encoder made of the mentions of every history."""

    mentions: Vectors  # (histories, MENTIONS, D)
    queries: dict[str, Vectors]  # kind → (histories, D)

    def similarity(self, kind: str) -> Vectors:
        """Return the cosines of every mention, less their history's mean: (histories, MENTIONS)."""
        cosines = np.einsum("hmd,hd->hm", self.mentions, self.queries[kind])
        centred: Vectors = cosines - cosines.mean(1, keepdims=True)
        return centred

    def conditioned(self) -> dict[str, Vectors]:
        """Return every mention times its question, in two dimensions: kind → (all mentions, 2).

        The sum of such a product's entries is the cosine. A history's mean is taken out, which
        removes the topic; the plane is that of the two largest variances over all kinds.
        """
        products = [self.mentions * self.queries[kind][:, None] for kind in QUERIES]
        rows = np.concatenate([p - p.mean(1, keepdims=True) for p in products])
        flat = rows.reshape(-1, rows.shape[-1])
        axes = np.linalg.svd(flat, full_matrices=False)[2][:2]  # (2, D)
        return dict(zip(QUERIES, np.split(flat @ axes.T, len(QUERIES)), strict=True))


def see(encoder: Encoder, histories: Sequence[Told], name: str) -> Seen:
    """Read every history to its end, and ask there."""
    mentions, queries = [], []
    for told in track(histories, name, transient=True):
        vectors, state = read_all(encoder, told.turns)
        mentions.append(vectors[list(told.mentions)])
        queries.append(encoder.embed_queries(state, list(told.queries.values())))
    stacked = np.stack(queries)  # (histories, kinds, D)
    return Seen(np.stack(mentions), {kind: stacked[:, n] for n, kind in enumerate(QUERIES)})


def separations(seen: Seen) -> dict[str, Interval]:
    """Return how well order is separated: the AUC of the wanted third of mentions over the others.

    "first" wants the early third over the late one, "last" the reverse, "middle" the middle third
    over both. 0.5 is chance, 1 is perfect; "order" is the mean of "first" and "last".
    """
    third = MENTIONS // 3
    early, late = slice(0, third), slice(MENTIONS - third, MENTIONS)
    middle, outer = slice(third, MENTIONS - third), np.r_[early, late]
    contrasts = {"first": (early, late), "last": (late, early), "middle": (middle, outer)}
    values = {
        kind: [_auc(row[yes], row[no]) for row in seen.similarity(kind)]
        for kind, (yes, no) in contrasts.items()
    }
    values["order"] = [(a + b) / 2 for a, b in zip(values["first"], values["last"], strict=True)]
    count = len(seen.mentions)
    resampling = Resampling([str(n) for n in range(count)], [""] * count)
    return {kind: resampling.interval(value) for kind, value in values.items()}


def _auc(matching: Vectors, others: Vectors) -> float:
    """Return the share of pairs in which the wanted one is higher; ties count half."""
    gap = matching[:, None] - others[None]
    return float((gap > 0).mean() + (gap == 0).mean() / 2)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    if options.segments < 2 * MENTIONS:
        _parser().error(f"--segments must be at least {2 * MENTIONS}, got {options.segments}")
    result: dict[str, Any] = {**setting("temporal", argv), "seed": options.seed, "encoders": {}}
    encoders, rows = Encoders(options.device), []
    try:
        histories = tell(options.histories, options.segments, options.seed)
        for name in options.encoder or [DEFAULT_ENCODER, "mini"]:
            seen = see(encoders[name], histories, name)
            intervals = separations(seen)
            rows.append([name, *(str(intervals[kind]) for kind in (*QUERIES, "order"))])
            result["encoders"][name] = {
                "auc": {kind: [i.mean, i.low, i.high] for kind, i in intervals.items()},
                "curves": {
                    kind: np.round(seen.similarity(kind).mean(0), 5).tolist() for kind in QUERIES
                },
            }
            if options.out:
                places = np.tile(np.linspace(0, 1, MENTIONS), len(histories))
                path = options.out / f"temporal_map_{len(rows)}.png"
                draw_map(seen.conditioned(), places, name, path)
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
    parser.add_argument("--segments", type=positive, default=256, metavar="N", help="turns of each")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="temporal.json, .svg, and a map for each encoder"
    )
    return parser
