"""The command line of the benchmark: ``scripts/bench``."""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measures import (
    FaultError,
    Result,
    bulk_orders,
    first_stage,
    histories,
    waiting_orders,
    whole_orders,
)
from benchmarks.system import System, run_system

_MEASURES: Final = ("orders", "latency", "waiting", "bulk", "histories")

#: Orders in bulk per second; where the statement alone is slow, in the same runs, this share of it:
#: HTTP, keys, limits and JSON take the rest.
_BULK_FLOOR: Final = 20_000.0
_BULK_SHARE: Final = 0.75


class Line(NamedTuple):
    """A line of the result; a figure has a floor or a ceiling, or neither."""

    measure: str
    unit: str
    results: list[Result]
    floor: float | None = None
    ceiling: float | None = None

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(result.figure for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether the median keeps what is asked of it."""
        return (self.floor is None or self.median >= self.floor) and (
            self.ceiling is None or self.median < self.ceiling
        )


def bench(
    orders: Annotated[int, typer.Option(help="Orders in the outbox, in sets.")] = 20_000,
    runs: Annotated[int, typer.Option(help="Runs, of which the median counts.")] = 3,
    seconds: Annotated[float, typer.Option(help="Seconds of the latency measure.")] = 20.0,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(_MEASURES)}.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One run, fewer orders.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write this file.")] = None,
) -> None:
    """Measure SlimTrack on private servers; exit 1 if a figure misses what is asked of it."""
    if only not in {None, *_MEASURES}:
        raise typer.BadParameter(f"--only is one of {', '.join(_MEASURES)}.")
    if quick:
        orders, runs, seconds = orders // 4, 1, seconds / 2
    progress = Console(stderr=True, highlight=False)
    lines: list[Line] = []
    try:
        with run_system() as system:
            measures: dict[str, Callable[[], list[Line]]] = {
                "orders": lambda: _measure_orders(
                    system, orders=orders, runs=runs, progress=progress
                ),
                "latency": lambda: _measure_latency(
                    system, seconds=seconds, runs=runs, progress=progress
                ),
                "waiting": lambda: _measure_waiting(system, progress=progress),
                "bulk": lambda: _measure_bulk(
                    system, orders=5 * orders, runs=runs, progress=progress
                ),
                "histories": lambda: _measure_histories(system, runs=runs, progress=progress),
            }
            for name, measure in measures.items():
                if only in {None, name}:
                    lines += measure()
    except FaultError as error:
        progress.print(str(error), style="red")
        raise typer.Exit(1) from error
    _show(lines)
    if json_file:
        document = [
            {**line._asdict(), "results": [r.figure for r in line.results]} for line in lines
        ]
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if not all(line.passed for line in lines):
        sys.exit(1)


def _measure_orders(system: System, *, orders: int, runs: int, progress: Console) -> list[Line]:
    sets, singles = [], []
    for run in range(runs):
        progress.print(f"Whole orders, run {run + 1} of {runs} …")
        sets.append(whole_orders(system, orders=orders, set_size=100))
        singles.append(whole_orders(system, orders=orders // 10, set_size=1))
    return [
        Line("whole orders, sets of 100", "/s", sets, floor=5000),
        Line("whole orders, one row per message", "/s", singles),
    ]


def _measure_latency(system: System, *, seconds: float, runs: int, progress: Console) -> list[Line]:
    medians, tails = [], []
    for run in range(runs):
        progress.print(f"201 to first stage, run {run + 1} of {runs} …")
        median, tail = first_stage(system, rate=50, seconds=seconds)
        medians.append(median)
        tails.append(tail)
    return [
        Line("201 to first stage at 50/s, p50", "ms", medians, ceiling=30),
        Line("201 to first stage at 50/s, p99", "ms", tails, ceiling=150),
    ]


def _measure_waiting(system: System, *, progress: Console) -> list[Line]:
    progress.print("10,000 orders that wait …")
    waiting = [waiting_orders(system, orders=10_000)]
    return [Line("CPU s in 10 s, 10,000 orders waiting", "s", waiting, ceiling=1)]


def _measure_bulk(system: System, *, orders: int, runs: int, progress: Console) -> list[Line]:
    over_http, alone = [], []
    for run in range(runs):
        progress.print(f"Bulk, run {run + 1} of {runs} …")
        pair = bulk_orders(system, orders=orders)
        over_http.append(pair[0])
        alone.append(pair[1])
    limit = Line("the statement alone, two connections", "/s", alone)
    pairs = zip(over_http, alone, strict=True)
    shares = [Result(figure=100 * one.figure / other.figure) for one, other in pairs]
    floor = min(_BULK_FLOOR, _BULK_SHARE * limit.median)
    return [
        Line("orders in bulk, over HTTP", "/s", over_http, floor=floor),
        limit,
        Line("the one in per cent of the other", "%", shares),
    ]


def _measure_histories(system: System, *, runs: int, progress: Console) -> list[Line]:
    progress.print("Histories …")
    pairs = [histories(system, reads=2_000) for _ in range(runs)]
    return [
        Line("a history from PostgreSQL", "µs", [pair[0] for pair in pairs]),
        Line("a history through Redis", "µs", [pair[1] for pair in pairs]),
        Line("10 times as long, from PostgreSQL", "µs", [pair[2] for pair in pairs]),
        Line("10 times as long, through Redis", "µs", [pair[3] for pair in pairs]),
    ]


def _show(lines: list[Line]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("MEASURE", "MEDIAN", "RUNS", "ASKED", "", "SEEN BESIDE, IN THE LAST RUN"):
        table.add_column(title, justify="right" if title == "MEDIAN" else "left")
    for line in lines:
        asked = f"≥ {line.floor:,.0f}" if line.floor else ""
        asked = f"< {line.ceiling:g}" if line.ceiling else asked
        table.add_row(
            line.measure,
            f"{line.median:,.1f} {line.unit}",
            " ".join(f"{result.figure:,.1f}" for result in line.results),
            asked,
            ("ok" if line.passed else "MISSED") if asked else "",
            ", ".join(f"{name} {value:,.1f}" for name, value in line.results[-1].notes.items()),
        )
    Console(soft_wrap=True, highlight=False).print(table)


if __name__ == "__main__":
    typer.run(bench)
