"""What was measured, what it is compared with, and whether that is enough."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from benchmarks.system import System

#: The figures of one run, by name.
Figures = Mapping[str, float]
#: Calculates something of the medians of all runs.
Formula = Callable[[Figures], float]


class FaultError(Exception):
    """The system did not do what it was measured at."""


class Scale(NamedTuple):
    """How much is measured."""

    runs: int
    #: Orders that go through all stages in one measure.
    orders: int
    #: Seconds of a measure that lasts as long as one wants.
    seconds: float
    #: Seconds that a transaction is held open.
    held: float
    #: Rows of the large backlog, and orders that wait for a delay.
    backlog: int
    waiting: int
    #: Orders that are in the tables already, one size after the other.
    sizes: Sequence[int]
    #: Minutes of the soak.
    minutes: float


FULL = Scale(
    runs=3,
    orders=20_000,
    seconds=10.0,
    held=300.0,
    backlog=200_000,
    waiting=1_000_000,
    sizes=(10_000, 100_000, 1_000_000),
    minutes=30.0,
)
QUICK = Scale(
    runs=1,
    orders=5_000,
    seconds=4.0,
    held=15.0,
    backlog=100_000,
    waiting=100_000,
    sizes=(10_000, 100_000),
    minutes=2.0,
)


class Verdict(StrEnum):
    """What a figure keeps of what is asked of it."""

    TARGET = "target"
    FLOOR = "floor"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: a figure, and what is asked of it.

    ``at_most`` where less is better; ``limit`` is what the figure is compared with, and cannot be
    better than.
    """

    metric: str
    figure: str
    unit: str
    floor: Formula
    target: Formula
    limit: Formula | None = None
    at_most: bool = False

    def judge(self, medians: Figures) -> Verdict:
        """Say what the median keeps."""
        figure = medians[self.figure]
        for verdict, bound in ((Verdict.TARGET, self.target), (Verdict.FLOOR, self.floor)):
            asked = bound(medians)
            if figure <= asked if self.at_most else figure >= asked:
                return verdict
        return Verdict.MISSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is measured together, in turn, run after run.

    ``together`` calculates figures of those of one run. A group that is not ``repeated`` takes
    so long that one run has to do; it repeats within itself what it can. A group with
    ``samples`` is a curve: each of them counts as a run, and it is only measured when asked for.
    """

    name: str
    what: str
    measures: Sequence[Callable[[System, Scale], Figures]] = ()
    rows: Sequence[Row] = ()
    together: Callable[[Figures], Figures] = lambda _: {}
    repeated: bool = True
    samples: Callable[[System, Scale], Iterator[Figures]] | None = None

    @property
    def asked_for(self) -> bool:
        """Whether it is only measured when asked for."""
        return self.samples is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A group and the figures of all its runs, by name.

    ``fault`` says why they are not all.
    """

    group: Group
    runs: Mapping[str, Sequence[float]]
    fault: str = ""

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the table, as far as their figures are there."""
        return [row for row in self.group.rows if row.figure in self.runs]

    @property
    def medians(self) -> Figures:
        """The median of each figure."""
        return {name: statistics.median(figures) for name, figures in self.runs.items()}


def measure(
    group: Group, system: System, scale: Scale, *, report: Callable[[str], None]
) -> Measured:
    """Measure a group, interleaved: each run takes every measure once.

    What was seen before the system did not do what it was measured at is worth seeing.
    """
    runs: dict[str, list[float]] = {}
    try:
        for figures in _runs(group, system, scale, report=report):
            for name, figure in figures.items():
                runs.setdefault(name, []).append(figure)
    except FaultError as error:
        return Measured(group=group, runs=runs, fault=str(error))
    return Measured(group=group, runs=runs)


def _runs(
    group: Group, system: System, scale: Scale, *, report: Callable[[str], None]
) -> Iterator[Figures]:
    if group.samples:
        report(f"{group.what} …")
        yield from group.samples(system, scale)
        return
    times = scale.runs if group.repeated else 1
    for run in range(times):
        figures: dict[str, float] = {}
        for each in group.measures:
            report(f"{group.what}, run {run + 1} of {times}: {_name_of(each)} …")
            figures |= each(system, scale)
        yield {**figures, **group.together(figures)}


def _name_of(each: Callable[..., object]) -> str:
    return getattr(each, "__name__", "measure").replace("_", " ")


def fixed(figure: float) -> Formula:
    """Ask for a figure, whatever else was seen."""
    return lambda _: figure


def share(part: float, limit: Formula) -> Formula:
    """Ask for a part, or a multiple, of a limit."""
    return lambda medians: part * limit(medians)


def more(limit: Formula, extra: float) -> Formula:
    """Allow so much more than a limit."""
    return lambda medians: limit(medians) + extra


def median(name: str) -> Formula:
    """Take a figure."""
    return lambda medians: medians[name]


def in_turn(*names: str) -> Formula:
    """Return the rate at which several things get done by the same cores, one after the other.

    What each costs adds up: H(x, y, …) = 1 / (1/x + 1/y + …).
    """
    return lambda medians: 1 / sum(1 / medians[name] for name in names)
