"""The cost of reading: one stream, many streams, bulk, memory; compared with rebuilding and static vectors.

    python -m benchmarks speed --out benchmarks/results/speed.json                # a CPU, minutes
    python -m benchmarks speed --device cuda --model 0.8B --model 4B --model 2B   # a GPU, < 8 minutes

Models of the published shapes have random weights; the small encoder has its own. `share of peak` is
the achieved FLOP/s, counted from the weights that every token is multiplied with, divided by the FLOP/s
of a large matrix product on the same device in the same run. `over the floor` is the number of tokens
that passed through the decoder, divided by the minimum of the algorithm (one pass over each turn's
tokens, latents and text, and one over the queue wherever it shifts). Rows with `rebuild` are the
reference's algorithm, which recomputes everything for every call, on our model code. With
`--reference`, rows with `reference` are the reference's own code with the same weights, for one new
turn and a query after a history; `ratio` is its time divided by our mean for the same. On a CPU, which
may be shared, shares of the peak and ratios use CPU seconds; wall times are shown as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cost import speed_small
from benchmarks.cost.reference import load_code
from benchmarks.cost.shapes import peak
from benchmarks.cost.speed_lines import Clock, Line
from benchmarks.cost.speed_published import published, work_of
from benchmarks.reporting.output import machine, positive, setting, table, write_json
from evomem.errors import InputError

PARTS = ("stream", "many", "threads", "bulk", "memory")
MIN_COSINE = {torch.float32: 1 - 1e-5, torch.bfloat16: 0.9}
"""The minimum cosine between the reference's embeddings and ours for the models to count as equal. Deep
random recurrences amplify 16-bit rounding: with 24 hybrid layers, the embeddings of either code have a
cosine of 0.93 with those in float32."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; return 0, 1 if the reference's embeddings differ, or 2 after an error message."""
    options = _options(argv)
    try:
        code = load_code(options.reference) if options.reference else None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    clock = Clock(time.monotonic() + 60 * options.minutes, options.seconds)
    parts = options.part or PARTS
    result: dict[str, Any] = {
        **setting("speed", argv),
        "device": _device(device),
        "threads": torch.get_num_threads(),
        "peak_flops": peak(device, dtype),
        "rows": [],
    }
    print(f"{result['device']} · {machine()} · peak {result['peak_flops'] / 1e9:,.0f} GFLOP/s")
    if not options.no_mini:
        for make in (speed_small.mini, speed_small.static):
            _add(result, make(options, parts, clock, device))
    for name in options.model:
        work = work_of(name, options, device, dtype, result["peak_flops"])
        _add(result, published(work, parts, options, clock, code))
        del work
        if device.type == "cuda":
            torch.cuda.empty_cache()
    result["complete"] = not clock.late()
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))
    worst = min((row["cosine"] for row in result["rows"] if "cosine" in row), default=1.0)
    if not worst >= MIN_COSINE[dtype]:  # also if it is NaN
        print(f"the reference's embeddings differ from ours: cosine {worst}", file=sys.stderr)
        return 1
    return 0


# figures ---------------------------------------------------------------------------------------


def _add(result: dict[str, Any], lines: Iterator[Line]) -> None:
    """Append lines to the result and print each at once, so that an interrupted run shows its lines."""
    finished = []
    for line in lines:
        result["rows"].append(line)
        finished.append(line)
        print(*(f"{name} {_number(value)} ·" for name, value in line.items()), flush=True)
    for part in dict.fromkeys(line["part"] for line in finished):
        rows = [line for line in finished if line["part"] == part]
        names = list(dict.fromkeys(name for row in rows for name in row if name != "part"))
        print(f"\n{part}")
        print(
            table(names, [[_number(row.get(name)) for name in names] for row in rows]), flush=True
        )


def _number(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:,.4g}"


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.reference and not options.model:
        parser.error("--reference is compared with a model: name it with --model")
    if options.compile and options.part != ["stream"]:
        parser.error("--compile only applies to the latencies of one stream: add --part stream")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--model", action="append", default=[], choices=("tiny", "0.8B", "2B", "4B")
    )
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="tables to measure; all if not given"
    )
    parser.add_argument("--no-mini", action="store_true", help="only the models named by --model")
    parser.add_argument(
        "--turns", type=positive, nargs="+", default=[100, 10_000, 100_000],
        help="turns that a memory holds (small encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=positive, nargs="+", default=[1, 4, 16, 64, 256, 1024],
        help="concurrent streams",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=positive, nargs="+", default=[1, 16],
        help="threads that add and search in one database",
    )  # fmt: skip
    parser.add_argument("--histories", type=positive, default=16, help="histories of a bulk import")
    parser.add_argument(
        "--rebuild", type=positive, nargs="*", default=[64, 512], help="turns to rebuild"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="CHECKOUT",
        help="a checkout of https://github.com/MiG-NJU/EvoEmbedding: measure its own code after "
        "histories of --rebuild turns; needs --model and the package peft",
    )  # fmt: skip
    parser.add_argument(
        "--compile", action="store_true",
        help="use torch.compile for the decoder's layers; only with --part stream, because packed "
        "passes would be compiled again for every number of streams",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="approximate length of a measurement"
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="start nothing after this time")
    parser.add_argument("--cache-gib", type=int, help="cache size of the published shapes")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser
