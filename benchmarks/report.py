"""Shows what was measured: a table for people, JSON for programs."""

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Measured, Row, Scale, Verdict

_COLOURS: Final = {Verdict.TARGET: "green", Verdict.FLOOR: "yellow", Verdict.MISSED: "red"}


#: Samples of a curve that are printed; all are in the JSON.
_SHOWN: Final = 8


def show(results: Sequence[Measured], console: Console) -> None:
    """Print every row with its bounds, then what else was seen."""
    table = Table(box=None, pad_edge=False)
    for title in ("METRIC", "MEDIAN", "RUNS", "LIMIT", "RATIO", "FLOOR", "TARGET", "VERDICT"):
        left = title in {"METRIC", "VERDICT"}
        table.add_column(title, justify="left" if left else "right", no_wrap=title != "METRIC")
    for measured in results:
        for row in measured.rows:
            table.add_row(*_cells(row, measured))
    if table.row_count:
        console.print(table)
    for measured in results:
        if measured.group.samples:
            console.print(f"\n{measured.group.what}:")
            console.print(_curve(measured))
            continue
        shown = {row.figure for row in measured.group.rows}
        others = {name: runs for name, runs in measured.runs.items() if name not in shown}
        if others:
            console.print(f"\nSeen beside, {measured.group.what}:")
        for name, runs in others.items():
            console.print(f"  {name}: {number(measured.medians[name])} ({_span(runs)})")


def number(figure: float) -> str:
    """Write a figure with as many digits as mean something."""
    size = abs(figure)
    return f"{figure:,.0f}" if size >= 100 else f"{figure:.1f}" if size >= 10 else f"{figure:.2f}"


def document(results: Sequence[Measured], scale: Scale) -> dict[str, Any]:
    """Return everything as it goes into the JSON file."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "scale": scale._asdict(),
        "rows": [
            {
                "metric": row.metric,
                "unit": row.unit,
                "median": measured.medians[row.figure],
                "runs": list(measured.runs[row.figure]),
                "limit": row.limit(measured.medians) if row.limit else None,
                "floor": row.floor(measured.medians),
                "target": row.target(measured.medians),
                "at_most": row.at_most,
                "verdict": row.judge(measured.medians),
            }
            for measured in results
            for row in measured.rows
        ],
        "figures": {
            measured.group.name: {name: list(runs) for name, runs in measured.runs.items()}
            for measured in results
        },
        "faults": {measured.group.name: measured.fault for measured in results if measured.fault},
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write the JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _cells(row: Row, measured: Measured) -> list[str]:
    medians = measured.medians
    verdict = row.judge(medians)
    limit = row.limit(medians) if row.limit else None
    sign = "≤" if row.at_most else "≥"
    return [
        row.metric,
        f"{number(medians[row.figure])} {row.unit}",
        _span(measured.runs[row.figure]),
        number(limit) if limit is not None else "",
        f"{medians[row.figure] / limit:.2f}" if limit else "",
        f"{sign} {number(row.floor(medians))}",
        f"{sign} {number(row.target(medians))}",
        f"[{_COLOURS[verdict]}]{verdict}[/]",
    ]


def _curve(measured: Measured) -> Table:
    """Return a column for each sample, or for as many of them as fit on a screen."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, figures in measured.runs.items():
        table.add_row(name, *map(number, figures[:: -(-len(figures) // _SHOWN)]))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return table


def _span(runs: Sequence[float]) -> str:
    least, most = min(runs), max(runs)
    return number(least) if least == most else f"{number(least)} to {number(most)}"
