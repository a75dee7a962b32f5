"""Draws what was measured, as PNG and SVG."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
_SUFFIXES: Final = (".png", ".svg")
_COLOURS: Final = {"target": "#2e7d32", "floor": "#f9a825", "MISSED": "#c62828"}

#: The figures of a group, by name.
Runs = Mapping[str, Sequence[float]]

mpl.use("Agg")
# The same figures make the same file.
mpl.rcParams["svg.hashsalt"] = "slimtrack"


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Draw the table as ``path``, without a suffix, and each curve as ``path``-its name."""
    if content["rows"]:
        _save(_draw_table(content["rows"]), path)
    for name, draw_curve in _CURVES.items():
        if content["figures"].get(name):
            _save(draw_curve(content["figures"][name]), path.with_name(f"{path.name}-{name}"))


def _draw_table(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw how far each row is beyond its floor, with its target."""
    figure: Figure
    figure, axes = plt.subplots(figsize=(10, 0.5 * len(rows) + 1.5), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        beyond = _beyond(row, row["median"])
        axes.barh(place, beyond, color=_COLOURS[row["verdict"]], height=0.6)
        axes.plot([_beyond(row, run) for run in row["runs"]], [place] * len(row["runs"]), "k|")
        axes.plot(_beyond(row, row["target"]), place, "k*", markersize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["metric"] for row in reversed(rows)])
    axes.set_xlabel("times its floor (log scale); | each run, ★ the target")
    # A figure that is next to nothing is far beyond: its bar ends at the edge.
    axes.set_xlim(_TICKS[0], _TICKS[-1])
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    return figure


def _draw_growth(runs: Runs) -> Figure:
    figure: Figure
    figure, (rate, latency) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    sizes = runs["orders in the tables"]
    _draw_rate(rate, sizes, runs)
    for name in ("p50", "p99"):
        latency.plot(sizes, runs[f"201 to first stage {name}, ms"], "o-", label=name)
    latency.set_title("from the 201 to the first stage at 50/s, ms")
    latency.legend(loc="lower right")
    for axes in (rate, latency):
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("delivered orders in the tables")
        _begin_at_zero(axes)
    return figure


def _draw_workers(runs: Runs) -> Figure:
    figure: Figure
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    counts = runs["worker processes of each queue"]
    _draw_rate(axes, counts, runs)
    axes.set_xlabel("worker processes of each queue")
    axes.set_xticks(counts)
    _begin_at_zero(axes)
    return figure


#: The panels of the soak: their titles, and the names of their figures with that of the line.
_PANELS: Final = {
    "orders/s": "(.+)/s",
    "answers to POST /api/orders, ms": "POST (.+), ms",
    "memory, MB": "memory of (.+), MB",
    "tables with their indexes, MB": "(.+) on disk, MB",
}


def _draw_soak(runs: Runs) -> Figure:
    figure: Figure
    figure, panels = plt.subplots(2, 2, figsize=(12, 7), layout="constrained", sharex=True)
    minutes = [seconds / 60 for seconds in runs["s"]]
    for axes, (title, pattern) in zip(panels.flat, _PANELS.items(), strict=True):
        for name, values in runs.items():
            if found := re.fullmatch(pattern, name):
                axes.plot(minutes, values, label=found[1], linewidth=1)
        axes.set_title(title)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        _begin_at_zero(axes)
    for axes in panels[1]:
        axes.set_xlabel("minutes")
    return figure


def _draw_rate(axes: Axes, places: Sequence[float], runs: Runs) -> None:
    """Draw the medians, and the span from the least to the most."""
    axes.plot(places, runs["whole orders/s"], "o-")
    axes.fill_between(
        places, runs["least whole orders/s"], runs["most whole orders/s"], alpha=0.2, linewidth=0
    )
    axes.set_title("whole orders/s: median, least to most")


def _begin_at_zero(axes: Axes) -> None:
    axes.set_ylim(0, 1.15 * axes.dataLim.y1)
    axes.grid(alpha=0.3)


_CURVES: Final[Mapping[str, Callable[[Runs], Figure]]] = {
    "growth": _draw_growth,
    "workers": _draw_workers,
    "soak": _draw_soak,
    "pages-soak": _draw_soak,
}


def _beyond(row: dict[str, Any], figure: float) -> float:
    """Return how often a figure keeps its floor; where less is better, the other way round."""
    floor = float(row["floor"])
    return floor / max(figure, 1e-9) if row["at_most"] else figure / floor


def _save(figure: Figure, path: Path) -> None:
    for suffix in _SUFFIXES:
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(path.with_suffix(suffix), dpi=110, metadata=metadata)
    plt.close(figure)
