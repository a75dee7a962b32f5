"""The command that places the orders of a file: import."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Self, TextIO
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from slimtrack.bootstrap import open_access, open_tracking
from slimtrack.commands.options import Exit
from slimtrack.commands.rows import (
    FIELDS,
    Lines,
    Row,
    UnusableInputError,
    order_of,
    read_csv,
    read_jsonl,
    tell_format,
)
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.domain.access import DEFAULT_TENANT_NAME, Tenant
from slimtrack.domain.errors import FieldError, UnavailableError
from slimtrack.domain.order import NewOrder, Order
from slimtrack.use_cases.tracking import Tracking

#: Orders that are placed in one statement.
_BATCH: Final = 500
#: Seconds between two lines of progress where there is no terminal.
_REPORT: Final = 5.0
#: Seconds before a batch is sent again whose outcome is unknown: doubled up to the longest.
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 10.0


@dataclass(slots=True)
class _Counts:
    """What came of the rows so far."""

    placed: int = 0
    already_there: int = 0
    refused: int = 0


def import_(
    file: Annotated[str, typer.Argument(help="A CSV or JSON lines file, or - for standard input.")],
    state_dir: StateDir = None,
    tenant: Annotated[
        str, typer.Option(help="Whose orders; its flow moves those without one.")
    ] = DEFAULT_TENANT_NAME,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv or jsonl, where the name and first line do not tell."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--map", help="Which columns hold what: description=COLUMN,reference=COLUMN"),
    ] = None,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave out the other columns of a CSV file.")
    ] = False,
    rejected: Annotated[
        Path | None,
        typer.Option(help="Where refused rows go.", show_default="FILE.rejected.jsonl"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Place the orders of a file; run it again, and those with a reference are not placed twice.

    CSV has a header with a description and, if you like, a reference and a flow; other columns
    become the order's metadata. JSON lines are objects with description, reference, metadata and
    flow.
    Rows that cannot be orders are written to FILE.rejected.jsonl with their line and the reason.
    Exit code: 0 all placed or already there, 1 some rows were refused, 2 the input is unusable.
    """
    mapping = _read_mapping(columns)
    if form not in {None, "csv", "jsonl"}:
        raise typer.BadParameter("--format is csv or jsonl.")
    refused_path = rejected or Path(f"{'stdin' if file == '-' else file}.rejected.jsonl")
    counts = _Counts()
    with ExitStack() as stack:
        stream, size = _open(file, stack)
        lines = Lines(stream)
        rows = (
            read_jsonl(lines, columns=mapping)
            if (form or tell_format(file, lines.first)) == "jsonl"
            else read_csv(lines, columns=mapping, with_metadata=not no_metadata)
        )
        settings = read_settings(state_dir)
        with open_access(settings) as access:
            owner = access.get_tenant(tenant)
        tracking = stack.enter_context(open_tracking(settings))
        refusals = stack.enter_context(_Refusals(refused_path))
        show = stack.enter_context(_progress(lines, size=size, counts=counts))
        interrupted = stack.enter_context(_interruptible())
        try:
            while not interrupted and (batch := list(islice(rows, _BATCH))):
                _place(tracking, batch, tenant=owner, counts=counts, refusals=refusals)
                show()
        except UnusableInputError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(Exit.UNUSABLE) from error
    _print_counts(counts, refused_path=refused_path, as_json=as_json)
    if interrupted:
        typer.echo("Interrupted: run it again for the rest.", err=True)
        raise typer.Exit(Exit.INTERRUPTED)
    if counts.refused:
        raise typer.Exit(Exit.AMISS)


class _Refusals:
    """The file of refused rows; it is there only if there are some."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, row: Row, reason: str) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        document = {"line": row.line, "reason": reason, "row": row.fields}
        self._file.write(msgspec.json.encode(document).decode() + "\n")


def _place(
    tracking: Tracking,
    rows: Sequence[Row],
    *,
    tenant: Tenant,
    counts: _Counts,
    refusals: _Refusals,
) -> None:
    orders: list[NewOrder] = []
    for row in rows:
        reason = row.reason
        if not reason:
            try:
                orders.append(order_of(row, tenant=tenant))
            except FieldError as error:
                reason = str(error)
        if reason:
            counts.refused += 1
            refusals.write(row, reason)
    for outcome in _place_surely(tracking, orders):
        if isinstance(outcome, Order):
            counts.placed += 1
        else:
            counts.already_there += 1


def _place_surely(tracking: Tracking, orders: Sequence[NewOrder]) -> list[Order | UUID]:
    """Place orders, however long it takes: with the same ids, a repeat makes none twice."""
    wait = 0.0
    while True:
        try:
            return tracking.place_many(orders)
        except UnavailableError as error:
            if not wait:
                typer.echo(f"{error} Trying again until it does.", err=True)
            wait = min(max(2 * wait, _FIRST_WAIT), _LONGEST_WAIT)
            time.sleep(wait)


def _open(file: str, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    if file == "-":
        return sys.stdin.buffer, None
    try:
        stream = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as error:
        typer.secho(f"{file} cannot be read: {error.strerror}.", fg="red", err=True)
        raise typer.Exit(Exit.UNUSABLE) from error
    return stream, Path(file).stat().st_size


def _read_mapping(text: str | None) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        field, equals, column = pair.partition("=")
        if not (equals and column and field in FIELDS):
            raise typer.BadParameter("--map is description=COLUMN,reference=COLUMN.")
        mapping[field] = column
    return mapping


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Note a Ctrl-C, so that the batch under way is finished; the list is then not empty."""
    interrupted: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda _signal, _frame: interrupted.append(True))
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(lines: Lines, *, size: int | None, counts: _Counts) -> Iterator[Any]:
    """Yield what is to be called after each batch."""
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()

    def rate() -> str:
        done = counts.placed + counts.already_there + counts.refused
        return f"{done:,} rows, {done / max(time.monotonic() - started, 1e-3):,.0f}/s"

    if console.is_terminal:
        with Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as progress:
            task = progress.add_task("", total=size, rate="")
            yield lambda: progress.update(task, completed=lines.bytes_read, rate=rate())
        return
    reported = started

    def report() -> None:
        nonlocal reported
        if time.monotonic() - reported >= _REPORT:
            reported = time.monotonic()
            share = f", {lines.bytes_read / size:.0%}" if size else ""
            console.print(f"{rate()}{share}")

    yield report


def _print_counts(counts: _Counts, *, refused_path: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(counts))
        return
    where = f" (see {refused_path})" if counts.refused else ""
    typer.echo(
        f"{counts.placed:,} placed, {counts.already_there:,} already there, "
        f"{counts.refused:,} refused{where}"
    )
