"""Which rule mixes cosine and BM25 best? Chosen on development data only: REALTALK and BEAM.

Every turn of a conversation is scored by both; the rules differ in how they make the two comparable.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import Dataset, DatasetError
from benchmarks.datasets.find import DEVELOPMENT, add_arguments, load_all
from benchmarks.encoders import Encoders, read_all
from benchmarks.metrics import DEPTH, score, summarise
from benchmarks.output import setting, table, write_json
from benchmarks.systems import Bm25, Scores, best, rrf, z_sum
from evomem import Encoder
from evomem.errors import EvomemError
from evomem.plugins import DEFAULT_ENCODER

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the cosine
Rule = Callable[[Scores, Scores], Scores]


def best_sum(cosine: Scores, lexical: Scores, share: float) -> Scores:
    """Mix both as shares of the question's best: the product's rule, `evomem.ranking.fuse`."""
    return share * cosine / (cosine.max() or 1.0) + (1 - share) * lexical / (lexical.max() or 1.0)


def range_sum(cosine: Scores, lexical: Scores, share: float) -> Scores:
    """Mix both after stretching the cosine over [0, 1]; BM25 begins at 0 as it is."""
    return best_sum(cosine - cosine.min(), lexical, share)


RULES: dict[str, Rule] = {
    "cosine alone": lambda cosine, _: cosine,
    "bm25 alone": lambda _, lexical: lexical,
    "rrf 60": rrf,
    **{f"z-scores {share}": partial(z_sum, share=share) for share in SHARES},
    **{f"shares of the best {share}": partial(best_sum, share=share) for share in SHARES},
    **{f"min-max {share}": partial(range_sum, share=share) for share in SHARES},
}


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after saying what is wrong."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {**setting("fusion", argv), "encoder": options.encoder}
    try:
        datasets = load_all(options, DEVELOPMENT)
        reserved = [each.name for each in datasets if each.name in RESERVED]
        if reserved:
            raise DatasetError(f"{reserved[0]} is for reporting: choose on {DEVELOPMENT} only")
        encoder = Encoders()[options.encoder]
        result["datasets"] = {each.name: compare(each, encoder, options.limit) for each in datasets}
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{result['machine']} · share of the cosine behind each rule's name · {options.encoder}\n"
    )
    print(report(result["datasets"]))
    if options.out:
        write_json(options.out, result)
    return 0


def compare(dataset: Dataset, encoder: Encoder, limit: int | None = None) -> dict[str, Any]:
    """Return the metrics of every rule; questions are asked behind the last turn."""
    scored: dict[str, list[tuple[str, dict[str, float]]]] = defaultdict(list)
    lexicon = Bm25()
    for conversation in dataset.conversations[:limit]:
        asked = [question for question in conversation.questions if question.evidence]
        vectors, state = read_all(encoder, conversation.turns)
        queries = encoder.embed_queries(state, [question.text for question in asked])
        lexical = lexicon.scorer(conversation.turns)
        for question, query in zip(asked, queries, strict=True):
            cosines = np.asarray(vectors @ query, np.float64)
            words = lexical(question.text)
            for name, rule in RULES.items():
                ranking = best(rule(cosines, words), DEPTH)
                scored[name].append((question.type, score(ranking, question.evidence)))
    return {name: summarise(rows)["overall"] for name, rows in scored.items()}


def report(datasets: dict[str, Any]) -> str:
    """Return a table: a row for each rule, two columns for each dataset and metric."""
    columns = [(d, group, m) for d in datasets for group in ("all", "macro") for m in COLUMNS]
    rows = [
        [name, *(f"{datasets[d][name][group][m]:.3f}" for d, group, m in columns)] for name in RULES
    ]
    return table(["rule", *(f"{d} {group} {m}" for d, group, m in columns)], rows)


COLUMNS = ("recall@10", "ndcg@10")
RESERVED = ("locomo", "longmemeval", "planted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks fusion", description=(__doc__ or "").partition("\n")[0]
    )
    add_arguments(parser)
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="only N conversations of each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything here as JSON")
    return parser
