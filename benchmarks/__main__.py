"""The command line of the benchmark: ``scripts/bench``."""

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.figures import FULL, QUICK, Measured, Verdict, measure
from benchmarks.report import document, show, write_json
from benchmarks.system import run_system
from benchmarks.table import GROUPS

_NAMES: Final = [group.name for group in GROUPS]


def bench(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Measure this alone: {', '.join(_NAMES)}.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Runs, of which the median counts. [default: 3]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=2, help="Minutes of a soak. [default: 30]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One run, and less in it.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw this file as .png and .svg, without its suffix.")
    ] = None,
) -> None:
    """Measure SlimTrack on private servers, in one run with its limits and its peers.

    The curves (growth, workers, soak, pages-soak) are only measured when asked for.
    Exit 1 if a figure misses its floor, or something went wrong.
    """
    if unknown := set(only or ()) - set(_NAMES):
        raise typer.BadParameter(f"--only is one of {', '.join(_NAMES)}, not {', '.join(unknown)}.")
    scale = QUICK if quick else FULL
    scale = scale._replace(runs=runs or scale.runs, minutes=minutes or scale.minutes)
    progress = Console(stderr=True, highlight=False)
    began = time.monotonic()

    def report(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        progress.print(f"{minutes:3}:{seconds:02}  {text}")

    results: list[Measured] = []
    with run_system(report=report) as system:
        for group in GROUPS:
            if group.asked_for if only is None else group.name not in only:
                continue
            measured = measure(group, system, scale, report=report)
            results.append(measured)
            if measured.fault:  # the others are worth seeing nevertheless
                progress.print(f"{group.what}: {measured.fault}", style="red")
    show(results, Console(soft_wrap=True, highlight=False))
    content = document(results, scale)
    if json_file:
        write_json(content, json_file)
    if plot:
        # Only now: whoever draws nothing needs no library for it.
        from benchmarks.plots import draw  # noqa: PLC0415 - as above

        draw(content, plot)
    if content["faults"] or any(row["verdict"] is Verdict.MISSED for row in content["rows"]):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(bench)
