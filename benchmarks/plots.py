"""Draws what was measured, as PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

_SUFFIXES: Final = (".png", ".svg")
_COLOURS: Final = {"target": "#2e7d32", "floor": "#f9a825", "MISSED": "#c62828"}

mpl.use("Agg")
# The same figures make the same file.
mpl.rcParams["svg.hashsalt"] = "slimtrack"


def draw_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw how far each row is beyond its floor, with its target; ``path`` without a suffix."""
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
    axes.xaxis.set_major_formatter("{x:g}")
    _save(figure, path)


def _beyond(row: dict[str, Any], figure: float) -> float:
    """Return how often a figure keeps its floor; where less is better, the other way round."""
    floor = float(row["floor"])
    return floor / max(figure, 1e-9) if row["at_most"] else figure / floor


def _save(figure: Figure, path: Path) -> None:
    for suffix in _SUFFIXES:
        metadata = {"Date": None} if suffix == ".svg" else None
        figure.savefig(path.with_suffix(suffix), dpi=110, metadata=metadata)
    plt.close(figure)
