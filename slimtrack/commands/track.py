"""The command that shows an order's history: track."""

import time
from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from slimtrack.bootstrap import open_tracking
from slimtrack.commands.options import Exit
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.commands.timeline import print_timeline
from slimtrack.domain.event import EventKind, OrderEvent
from slimtrack.domain.order import FINAL, Status
from slimtrack.domain.tracking_code import parse_code

#: Seconds between two looks at an order that is followed.
_FOLLOW: Final = 0.5


def track(
    order_id: Annotated[str, typer.Argument(metavar="ID", help="The order's id or tracking code.")],
    state_dir: StateDir = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the order is final.")
    ] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also what happened behind it, and what is awaited.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print an event as JSON a line, or the timeline as JSON."),
    ] = False,
) -> None:
    """Print an order's history."""
    wanted = _read_order(order_id)
    if timeline and follow:
        raise typer.BadParameter("--timeline is of now: it cannot be followed.")
    console = Console(highlight=False, soft_wrap=True)
    with open_tracking(read_settings(state_dir, only_looks=True)) as tracking:
        if timeline:
            told = tracking.timeline(wanted)
            if as_json:
                typer.echo(msgspec.json.encode(told))
            else:
                print_timeline(told, console=console)
            return
        seen = 0
        try:
            while True:
                events = tracking.history(wanted)
                for event in events[seen:]:
                    _print_event(event, console=console, as_json=as_json)
                seen = len(events)
                if not follow or _is_over(events):
                    return
                time.sleep(_FOLLOW)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None


def _is_over(events: Sequence[OrderEvent]) -> bool:
    """Tell whether an order is final; late reports and corrections may follow."""
    return any(event.kind is EventKind.TRANSITION and event.status in FINAL for event in events)


def _read_order(text: str) -> UUID | int:
    try:
        return UUID(text)
    except ValueError:
        number = parse_code(text)
    if number is None:
        raise typer.BadParameter(f"{text!r} is neither the id nor the tracking code of an order.")
    return number


def _print_event(event: OrderEvent, *, console: Console, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(event))
        return
    colour = "green" if event.status is Status.DELIVERED else "cyan"
    time_shown = event.occurred_at.astimezone().isoformat(sep=" ", timespec="seconds")
    line = Text(f"{event.sequence:>3}  {time_shown}  ")
    said = f"{event.message}: {event.reason}" if event.reason else event.message
    console.print(line.append(f"{event.status:<17}", style=colour).append(said))
