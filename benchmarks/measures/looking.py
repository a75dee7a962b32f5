"""What open pages cost: orders while nobody looks on, and while fifty pages follow them."""

import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed
from benchmarks.load import offer, saturate
from benchmarks.measures.flowing import check, drain, last_row
from benchmarks.measures.responding import percentile
from benchmarks.measures.soaking import steady_load
from benchmarks.pages import open_pages, reports
from benchmarks.system import Database, Processes, System, wait_for

_RATE: Final = 1_000.0
_CONNECTIONS: Final = 32
#: Orders of a request, where they are offered.
_BULK: Final = 100
#: Seconds between two looks at the answers.
_LOOK: Final = 0.01
#: Who looks on, one after the other: what changes by itself meanwhile falls on both alike.
_NOBODY: Final = "nobody"
_PAGES: Final = "50 pages"
_TURNS: Final = (_NOBODY, _PAGES, _PAGES, _NOBODY)

_MOST: Final = "most whole orders, {}/s"
_OFFERED: Final = "whole orders of 1,000/s offered, {}/s"
_CPU: Final = "of 1,000/s offered, {}: % of a core in {}"
_MEMORY: Final = "memory of api, MB"
_GROWTH: Final = "memory that the API grew, %"


def orders_while_pages_are_open(system: System, scale: Scale) -> Figures:
    """Place orders one by one, as fast as can be, then 1,000 a second in bulk, pages open or not.

    A few orders are reported on in both cases: those that some of the pages show.
    """
    seen: dict[str, list[float]] = {}
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes,
        system.connect() as database,
        reports(processes) as reporting,
    ):
        saturate(processes.api_url, connections=_CONNECTIONS, seconds=1)
        drain(database)
        for turn in _TURNS:
            looking_on: AbstractContextManager[None] = (
                open_pages(processes, reporting) if turn == _PAGES else nullcontext()
            )
            with looking_on:
                figures = {
                    _MOST.format(turn): _most(processes, database, scale.seconds),
                    **_offered(system, processes, database, turn=turn, seconds=scale.seconds),
                }
            for name, figure in figures.items():
                seen.setdefault(name, []).append(figure)
        check(database)
    return {name: statistics.mean(figures) for name, figures in seen.items()} | {
        "report to page p50, ms": 1000 * statistics.median(reporting.delays),
        "report to page p99, ms": 1000 * percentile(reporting.delays, 0.99),
    }


def _most(processes: Processes, database: Database, seconds: float) -> float:
    """Return how many go from one POST each to the last delivery."""
    above = last_row(database)
    rate = saturate(processes.api_url, connections=_CONNECTIONS, seconds=seconds)
    return rate * seconds / (seconds + drain(database, above=above))


def _offered(
    system: System, processes: Processes, database: Database, *, turn: str, seconds: float
) -> Figures:
    """Offer orders in bulk, a request every 0.1 s; the clock stops at the last delivery.

    One by one, 1,000 a second are more than two cores carry with whoever sends them.
    """
    above = last_row(database)
    before, python = system.server_cpu(), processes.cpu()
    requests = int(seconds * _RATE / _BULK)
    with offer(
        processes.api_url, connections=2, rate=_RATE / _BULK, count=requests, bulk=_BULK
    ) as answers:
        while len(answers.response_times()) < requests:
            answers.take()
            wait_for(_LOOK)
    drain(database, above=above)
    seconds = time.monotonic() - answers.began
    spent = {name: now - before[name] for name, now in system.server_cpu().items()}
    spent["Python"] = processes.cpu() - python
    return {_OFFERED.format(turn): requests * _BULK / seconds} | {
        _CPU.format(turn, name): 100 * cost / seconds for name, cost in spent.items()
    }


def compared(figures: Figures) -> Figures:
    """Compare both."""
    return {
        name.format(f"{_PAGES} to {_NOBODY}").removesuffix("/s"): figures[name.format(_PAGES)]
        / figures[name.format(_NOBODY)]
        for name in (_MOST, _OFFERED)
    }


GROUP: Final = Group(
    name="pages",
    what="Fifty open pages",
    measures=(orders_while_pages_are_open,),
    together=compared,
    rows=(
        Row(
            metric="1,000 orders/s offered in bulk, with 50 pages open, to those with none",
            figure="whole orders of 1,000/s offered, 50 pages to nobody",
            unit="times",
            floor=fixed(0.95),
            target=fixed(0.98),
        ),
        Row(
            metric="the most orders/s, one POST each, with 50 pages open, to those with none",
            figure="most whole orders, 50 pages to nobody",
            unit="times",
            floor=fixed(0.95),
            target=fixed(0.98),
        ),
    ),
)


def memory_while_pages_are_open(system: System, scale: Scale) -> Iterator[Figures]:
    """Place 1,000 orders a second in bulk, with fifty pages open; look at the API's memory."""
    sizes: list[float] = []
    fault: FaultError | None = None
    try:
        for figures in steady_load(system, scale, rate=_RATE, bulk=_BULK, beside=_fifty_pages):
            sizes.append(figures[_MEMORY])
            yield figures
    except FaultError as error:  # what memory did is worth seeing nevertheless
        fault = error
    if sizes:
        yield {_GROWTH: 100 * (sizes[-1] / sizes[len(sizes) // 5] - 1)}
    if fault:
        raise fault


@contextmanager
def _fifty_pages(processes: Processes) -> Iterator[None]:
    with reports(processes) as reporting, open_pages(processes, reporting):
        yield


MEMORY: Final = Group(
    name="pages-soak",
    what="A steady load, with fifty open pages",
    samples=memory_while_pages_are_open,
    rows=(
        Row(
            metric="50 open pages: memory of the API, from a fifth of the time to its end",
            figure=_GROWTH,
            unit="% more",
            floor=fixed(5),
            target=fixed(2),
            at_most=True,
        ),
    ),
)
