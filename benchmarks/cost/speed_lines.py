"""Lines of the tables of `speed`: the figures of one call or of several calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

BULK = 600  # turns of a history as long as LoCoMo's
Line = dict[str, Any]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Clock:
    """The time limits of a run."""

    end: float
    """When to start nothing more, in seconds of `time.monotonic`."""
    seconds: float
    """The approximate length of one measurement."""

    def late(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() > self.end


def timed(call: Callable[..., R], *args: Any) -> tuple[Line, R]:
    """Call once; return the wall and CPU seconds, and the result of the call."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = call(*args)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu seconds": cpu}, value


def latency(lines: Sequence[Line]) -> Line:
    """Return the line of several calls, with the percentiles of their latencies."""
    wall = 1000 * np.array([line["seconds"] for line in lines])
    cpu = 1000 * np.array([line["cpu seconds"] for line in lines])
    means = mean([line for line in lines if "model" in line]) if "model" in lines[0] else {}
    return {
        **{name: means[name] for name in ("model", "share of peak", "over the floor") if name in means},
        "p50 ms": float(np.median(wall)),
        "p95 ms": float(np.quantile(wall, 0.95)),
        "cpu p50 ms": float(np.median(cpu)),
    }  # fmt: skip


def mean(lines: Sequence[Line]) -> Line:
    """Return the line of all `lines` together, with rates weighted by time."""
    seconds = sum(line["seconds"] for line in lines)
    turns = sum(line["turns/s"] * line["seconds"] for line in lines)
    result: Line = {"model": lines[0]["model"]}
    if turns:
        result["cpu ms a turn"] = 1000 * sum(line["cpu seconds"] for line in lines) / turns
    for name in ("turns/s", "tokens/s", "share of peak"):
        result[name] = sum(line[name] * line["seconds"] for line in lines) / seconds
    floors = [line for line in lines if line["over the floor"]]
    if floors:
        tokens = sum(line["tokens/s"] * line["seconds"] for line in floors)
        floor = sum(line["tokens/s"] * line["seconds"] / line["over the floor"] for line in floors)
        result["over the floor"] = tokens / floor
    return result
