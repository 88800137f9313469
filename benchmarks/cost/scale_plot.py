"""A plot of cost against size, from results of `python -m benchmarks scale --part texts`.

python -m benchmarks scale_plot benchmarks/results/scale_texts*.json --out costs.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting.plots import draw_costs

INGEST, REST = "ingest, CPU s per 1,000 turns", "… of which not the encoder"
SIZES = ("bytes a turn", "peak memory, MB")
SEARCHES = {  # a panel: the search that it shows of each system
    "search by vectors, p50, CPU ms": {"evomem": "evolvable search", "plain RAG": "search"},
    "hybrid search, p50, CPU ms": {"evomem": "hybrid search"},
}


def main(argv: Sequence[str]) -> int:
    """Draw the plot; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale_plot", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results, an encoder each")
    parser.add_argument("--out", type=Path, required=True, help="an SVG or PNG file")
    options = parser.parse_args(argv)
    rows = [row for path in options.results for row in json.loads(path.read_text("utf-8"))["texts"]]
    draw_costs(panels(rows), "tokens", options.out)
    return 0


def panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return the points (tokens, cost) of each cost and system, as `draw_costs` takes them.

    Plain RAG's cost of ingest includes the encoder's in the same run.
    """
    of_evomem = {(row["encoder"], row["turns"]): row for row in rows if row["system"] == "evomem"}
    result: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        system, same = row["system"], of_evomem[row["encoder"], row["turns"]]
        costs = {
            INGEST: same[INGEST] - same[REST] + row[REST],
            **{name: row[name] for name in SIZES},
        }
        for panel, searches in SEARCHES.items():
            if system in searches:
                costs[panel] = row[f"{searches[system]}, p50, CPU ms"]
        tokens = row["turns"] * same["tokens a turn"]
        for panel, cost in costs.items():
            lines = result.setdefault(panel, {})
            encoder = row["encoder"].rpartition("/")[2]  # of a model's folder, its name
            lines.setdefault(f"{system}, {encoder}", []).append((tokens, cost))
    return result
