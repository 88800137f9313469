"""What does the small encoder find, with its memory and without? The protocol of `retrieval`.

Rows: the encoder with queues of several lengths, alone and mixed with BM25.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.output import setting, write_json
from benchmarks.retrieval import evaluate, report
from benchmarks.systems import Bm25, Rank, Scores, Static, System, best, z_sum
from evomem import Encoder, Turn, load_encoder
from evomem.errors import EvomemError
from evomem.mini import load
from evomem.plugins import DEFAULT_ENCODER
from evomem.state import State, Vectors


class Reader:
    """An encoder with memory, alone and mixed with BM25."""

    def __init__(self, name: str, encoder: Encoder, shares: Sequence[float]) -> None:
        """`shares`: weights of the cosine; 1 is the encoder alone."""
        self.rows = tuple(name if share == 1 else f"{name} + bm25, {share}" for share in shares)
        self._encoder, self._shares, self._bm25 = encoder, shares, Bm25()

    def index(self, turns: Sequence[Turn]) -> Mapping[str, Rank]:
        """See `System.index`."""
        state: State[Turn] = State.empty(self._encoder.spec)
        readings = self._encoder.read(state, turns)
        for turn, reading in zip(turns, readings, strict=True):
            state = state.after(turn, reading)
        vectors: Vectors = np.stack([reading.embedding for reading in readings])  # (N, D)
        lexical = self._bm25.scorer(turns)

        def rank(share: float) -> Rank:
            def ranked(question: str, k: int) -> list[int]:
                query = self._encoder.embed_queries(state, [question])[0]
                cosine: Scores = np.asarray(vectors @ query, np.float64)
                return best(z_sum(cosine, lexical(question), share) if share < 1 else cosine, k)

            return ranked

        return dict(zip(self.rows, map(rank, self._shares), strict=True))


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("mini", argv), "dates": False, "datasets": []}
    try:
        systems: list[System] = [Bm25()] if options.baselines else []
        if options.baselines:
            systems.append(Static(load_encoder(DEFAULT_ENCODER)))
        for turns in options.queue:
            encoder = load(options.weights, turns=turns)
            systems.append(Reader(f"mini, queue {turns}", encoder, options.share))
        for dataset in load_all(options, DEVELOPMENT):
            with Progress(transient=True) as progress:
                entry = evaluate(dataset, systems, options.limit, progress=progress)
            result["datasets"].append(entry)
            print(report(entry, result), flush=True)
            if options.out:
                write_json(options.out, result)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks mini", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--weights", default="", metavar="FILE", help="bundled if not given")
    parser.add_argument("--queue", type=int, nargs="*", default=[64, 0], help="lengths in turns")
    parser.add_argument(
        "--share", type=float, nargs="*", default=[1.0, 0.8], help="of the cosine; 1 is all"
    )
    parser.add_argument("--baselines", action="store_true", help="BM25 and static MiniLM too")
    parser.add_argument("--limit", type=int, metavar="N", help="only N conversations of each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
