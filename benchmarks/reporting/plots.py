"""Plots, drawn without a display and written as small SVG or PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evomem._extras import require

COLOURS = {"first": "tab:blue", "middle": "tab:gray", "last": "tab:orange"}


def draw_curves(encoders: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw similarity against position, with a panel per encoder and a line per question."""
    figure, panels = _panels(len(encoders))
    for panel, (name, curves) in zip(panels, encoders.items(), strict=True):
        for kind, values in curves.items():
            places = np.linspace(0, 1, len(values))
            panel.plot(places, values, label=kind, color=COLOURS[kind], marker=".")
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("position in the history")
    panels[0].set_ylabel("cosine minus the mean of its history")
    panels[0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_map(
    points: Mapping[str, npt.NDArray[Any]], places: npt.NDArray[Any], title: str, path: Path
) -> None:
    """Draw every mention, conditioned on each question, coloured by its position in the history."""
    figure, panels = _panels(len(points))
    for panel, (kind, rows) in zip(panels, points.items(), strict=True):
        scatter = panel.scatter(rows[:, 0], rows[:, 1], c=places, s=4, cmap="viridis")
        panel.set_title(f"asked for the {kind}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.colorbar(scatter, ax=panels, label="position in the history")
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def draw_accuracy(
    lines: Mapping[str, Sequence[tuple[float, float]]], label: str, path: Path
) -> None:
    """Draw (tokens, share of correct answers) with a line per system; tokens are on a log scale."""
    figure, [panel] = _panels(1)
    for name, points in lines.items():
        tokens, shares = zip(*sorted(points), strict=True)
        panel.plot(tokens, [100 * share for share in shares], label=name, marker="o")
    panel.set_xscale("log")
    panel.set_xlabel("mean tokens per prompt")
    panel.set_ylabel(f"{label}, %")
    panel.legend(frameon=False, fontsize=7)
    _save(figure, path)


def draw_reliability(
    lines: Mapping[str, Sequence[tuple[float, float, int, float, float]]], path: Path
) -> None:
    """Draw the share of evidence against the mean relevance, with a line per set of hits.

    Args:
        lines: For each set, bins as (low, high, hits, mean relevance, share of evidence). The area of a
            marker grows with the number of hits.
        path: Where to write the figure.
    """
    figure, [panel] = _panels(1)
    panel.plot([0, 1], [0, 1], color="tab:gray", linestyle=":", label="calibrated")
    for name, bins in lines.items():
        _, _, hits, means, shares = zip(*bins, strict=True)
        [line] = panel.plot(means, shares, label=name, linewidth=1)
        panel.scatter(means, shares, s=[4 + count / 20 for count in hits], color=line.get_color())
    panel.set_xlabel("mean relevance")
    panel.set_ylabel("share of evidence")
    panel.legend(frameon=False, fontsize=7)
    _save(figure, path)


def draw_costs(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], size: str, path: Path
) -> None:
    """Draw costs against size, both on log scales, with a panel per cost and a line per system."""
    figure, axes = _panels(len(panels))
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for panel, (cost, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            colour = f"C{names.index(name)}"  # the same in every panel
            panel.loglog(*zip(*sorted(points), strict=True), label=name, color=colour, marker=".")
        panel.set_title(cost, fontsize=9)
        panel.set_xlabel(size)
    axes[0].legend(frameon=False, fontsize=7)
    _save(figure, path)


def _panels(count: int) -> tuple[Any, list[Any]]:
    figures = require("matplotlib.figure", extra="benchmarks")  # no pyplot: no display, no state
    figure = figures.Figure(figsize=(1.5 + 3.2 * count, 3.2), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without these fields, the same data give the same file.
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, dpi=90, metadata=metadata)
