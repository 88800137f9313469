"""What does each part contribute? One table of systems by datasets, with intervals and paired differences.

The systems are those needed for a claim about memory: the small encoder with queues of several lengths,
with its history shuffled, and combined with BM25; static vectors, BM25, and the product itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.datasets.find import add_arguments, load_all
from benchmarks.quality.intervals import Interval
from benchmarks.quality.metrics import CUTS, DEPTH, MAIN_METRIC, TABLE_METRICS
from benchmarks.quality.retrieval import Rankings, add_run_arguments, rank_all, with_audit
from benchmarks.reporting.output import positive, progress_bar, setting, table, write_json
from benchmarks.reporting.published import PUBLISHED
from benchmarks.systems.encoders import Encoders
from benchmarks.systems.naming import NAMES
from evomem.errors import EvomemError

QUEUE_LENGTHS = (0, 8, 32, 64, 128)
BASELINES = ("bm25", "recency", "static", "static+bm25@0.6", "evomem/hybrid/static")


def systems(encoders: Sequence[str], queues: Sequence[int], share: float) -> list[str]:
    """Return the names of the systems to compare, for encoders with the option `turns`.

    >>> systems(["mini"], [0, 8], 0.9)[5:]
    ['mini', 'mini?turns=0', 'mini?turns=8', 'shuffled/mini', 'mini+bm25@0.9', 'evomem/hybrid/mini']
    """
    names = list(BASELINES)
    for encoder in encoders:
        names.append(encoder)
        names += [f"{encoder}{'&' if '?' in encoder else '?'}turns={turns}" for turns in queues]
        names += [f"shuffled/{encoder}", f"{encoder}+bm25@{share:g}", f"evomem/hybrid/{encoder}"]
    return names


def main(argv: Sequence[str]) -> int:
    """Run the comparison; return 0, or 2 after an error message."""
    options = _parser().parse_args(argv)
    names = systems(options.encoder or ["mini"], options.queue, options.share)
    names = list(dict.fromkeys([*(options.system or names), *options.add]))
    against = options.against or next((n for n in names if n.startswith("mini")), names[0])
    if against not in names:
        names.append(against)
    result: dict[str, Any] = {
        **setting("ablation", argv),
        "datasets": [],
        "published": [
            {
                "system": system.system,
                "macro": system.macro,
                "all": system.all,
                "source": system.source,
            }
            for system in PUBLISHED
        ],
    }
    cuts = tuple(sorted({*CUTS, *options.k}))
    encoders = Encoders(options.device)
    try:
        for dataset in load_all(options):
            with progress_bar() as progress:
                rankings = rank_all(
                    dataset,
                    names,
                    encoders,
                    folder=options.out,
                    limit=options.limit,
                    turns=options.turns,
                    dates=options.dates,
                    progress=progress,
                )
            for labelled in with_audit(rankings, options.audit):
                entry = {**labelled.summary(cuts), **differences(labelled, against)}
                result["datasets"].append(entry)
                print(_dataset_table(entry, options.k), flush=True)
            if options.out:
                write_json(options.out / "ablation.json", result)
    except EvomemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(overview(result))
    return 0


def differences(rankings: Rankings, against: str) -> dict[str, Any]:
    """Return the difference of every other system from `against`, with intervals."""
    intervals = {}
    for name in rankings.results:
        if name != against:
            interval = rankings.difference(name, against, MAIN_METRIC)
            intervals[name] = [interval.mean, interval.low, interval.high]
    return {"against": against, "differences": intervals}


def overview(result: dict[str, Any]) -> str:
    """Return the overview table: a row per system, a column per dataset."""
    datasets = result["datasets"]
    rows = []
    for number, row in enumerate(datasets[0]["rows"]):
        cells = [
            Interval(*system["rows"][number]["overall"]["macro"][MAIN_METRIC])
            for system in datasets
        ]
        rows.append([row["system"], *map(str, cells)])
    names = [dataset["dataset"] for dataset in datasets]
    published = [s for s in result["published"] if any(name in s["macro"] for name in names)]
    for system in published:
        figures = [str(system["macro"].get(name, "")) for name in names]
        rows.append([f"{system['system']} (published)", *figures])
    head = [f"{MAIN_METRIC}, macro, %", *(f"{d['dataset']} ({d['use']})" for d in datasets)]
    sources = sorted({system["source"] for system in published})
    return f"\n{table(head, rows)}\n\npublished: {'; '.join(sources)}"


def _dataset_table(entry: dict[str, Any], extra: Sequence[int]) -> str:
    """Return the detailed table of one dataset, with recall at `extra` cuts."""
    columns = [
        *TABLE_METRICS,
        *(f"recall@{k}" for k in extra if f"recall@{k}" not in TABLE_METRICS),
    ]
    kinds = list(entry["rows"][0]["types"])
    head = ["system", *columns, *(f"macro {c}" for c in columns), *kinds, "Δ macro"]
    rows = []
    for row in entry["rows"]:
        groups = [row["overall"]["all"], row["overall"]["macro"]]
        cells = [f"{100 * group[column][0]:.1f}" for group in groups for column in columns]
        cells += [f"{100 * row['types'][kind][MAIN_METRIC][0]:.1f}" for kind in kinds]
        rows.append([row["system"], *cells, _difference(entry, row["system"])])
    counts = entry["counts"]
    return (
        f"\n{entry['dataset']} ({entry['use']}) · {counts['conversations']} conversations, "
        f"{counts['turns']:,} turns, {counts['scored']:,} questions · intervals over "
        f"{entry['resampled']} · Δ: {MAIN_METRIC} against {entry['against']}, * beyond chance · "
        f"types: {MAIN_METRIC}\n\n{table(head, rows)}"
    )


def _difference(entry: dict[str, Any], system: str) -> str:
    if system not in entry["differences"]:
        return ""
    interval = Interval(*entry["differences"][system])
    return f"{interval}{' *' if interval.excludes_zero else '  '}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks ablation",
        description=f"{(__doc__ or '').partition(chr(10))[0]}\n\nSYSTEM is one of\n{NAMES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="NAME",
        help="an encoder to ablate, such as mini:FILE; may be repeated (default: mini)",
    )
    parser.add_argument(
        "--queue", type=int, nargs="*", default=list(QUEUE_LENGTHS), help="queue lengths in turns"
    )
    parser.add_argument("--share", type=float, default=0.9, help="weight of the cosine with BM25")
    parser.add_argument(
        "--system", action="append", metavar="SYSTEM", help="only this system; may be repeated"
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="SYSTEM",
        help="an additional system; may be repeated",
    )
    parser.add_argument(
        "--against",
        metavar="SYSTEM",
        help="the system that the others are compared with (default: the first encoder)",
    )
    parser.add_argument(
        "--k", type=_cut, nargs="*", default=[], help=f"more cuts for recall, at most {DEPTH}"
    )
    return parser


def _cut(text: str) -> int:
    k = positive(text)
    if k > DEPTH:
        raise argparse.ArgumentTypeError(f"rankings are {DEPTH} deep, got {k}")
    return k
