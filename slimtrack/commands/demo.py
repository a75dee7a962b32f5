"""The demo: a whole stack, twenty orders, and their journey as it happens."""

import http.client
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from slimtrack.commands.options import Exit
from slimtrack.commands.stack import start_detached, stop_stack
from slimtrack.commands.target import StateDir, directory_of
from slimtrack.domain.errors import StackError
from slimtrack.domain.order import FINAL, WAY, Status
from slimtrack.local.state import StackState, running_stack

#: Delays of a stack that the demo starts itself, so that it ends before anyone is bored.
_DELAYS: Final = "2,2,2,2"
#: Seconds between two looks at all orders, and without any move before we give up.
_INTERVAL: Final = 0.25
_PATIENCE: Final = 90.0

_GOODS: Final = (
    "Espresso machine",
    "Two novels and an atlas",
    "Winter coat, size M",
    "Bicycle helmet",
    "Box of ceramic tiles",
    "Laptop stand",
    "Potted olive tree",
    "Board game",
    "Running shoes, 42",
    "Vinyl records",
)


@dataclass(slots=True)
class _Journey:
    """What the demo has seen of one order."""

    id: str
    description: str
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def statuses(self) -> list[str]:
        return [event["status"] for event in self.events]

    @property
    def is_over(self) -> bool:
        return bool(self.events) and self.statuses[-1] in FINAL

    @property
    def fault(self) -> str | None:
        """Say what is wrong with a history that should be complete."""
        if self.statuses != list(WAY):
            return f"went {' → '.join(self.statuses) or 'nowhere'}"
        if [event["sequence"] for event in self.events] != list(range(1, len(WAY) + 1)):
            return "has a gap in its history"
        return None


class _Api:
    """Speaks to the REST API over one connection."""

    def __init__(self, url: str, *, key: str) -> None:
        parts = urlsplit(url)
        self._key = key
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=30)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"}
        if body:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except OSError as error:
            self._connection.close()
            raise StackError(f"The API does not answer: {error}") from error
        if answer.status >= 400:
            raise StackError(f"{method} {path} was answered {answer.status}: {content.decode()}")
        return json.loads(content)


def demo(
    orders: Annotated[int, typer.Option(help="How many orders to place.", min=1, max=1000)] = 20,
    state_dir: StateDir = None,
) -> None:
    """Start the stack, place orders over HTTP, and watch them being delivered."""
    console = Console(highlight=False, soft_wrap=True)
    with _stack(directory_of(state_dir), console=console) as stack:
        api = _Api(stack.api_url, key=stack.api_key)
        journeys = []
        for description in itertools.islice(itertools.cycle(_GOODS), orders):
            placed = api.call("POST", "/api/orders", {"description": description})
            journeys.append(_Journey(placed["id"], description))
        console.print(f"{orders} orders placed at {stack.api_url}/api/orders")
        _watch(api, journeys, console=console)
    faults = [f"{each.id} ({each.description}) {each.fault}" for each in journeys if each.fault]
    events = [(each.id, event["sequence"]) for each in journeys for event in each.events]
    delivered = sum(each.statuses[-1:] == [Status.DELIVERED] for each in journeys)
    for fault in faults:
        console.print(f"Order {fault}.", style="red")
    console.print(
        f"{delivered} orders delivered, {len(events)} events, {orders - delivered} lost, "
        f"{len(events) - len(set(events))} duplicated",
        style="red" if faults else "green",
    )
    if faults:
        raise typer.Exit(Exit.AMISS)


@contextmanager
def _stack(directory: Path, *, console: Console) -> Iterator[StackState]:
    """Use the stack that runs, or start one and stop it at the end."""
    running = running_stack(directory)
    if running and running.is_ready:
        console.print(f"Using the stack that runs in {directory}.")
        yield running
        return
    console.print(f"Starting a stack in {directory}")
    started = time.monotonic()
    environment = {"SLIMTRACK_STAGE_DELAYS": _DELAYS, **os.environ}
    stack = start_detached(directory, environment=environment)
    console.print(f"Everything is ready after {time.monotonic() - started:.1f} s.")
    try:
        yield stack
    finally:
        console.print("Stopping the stack …")
        stop_stack(directory)


def _watch(api: _Api, journeys: Sequence[_Journey], *, console: Console) -> None:
    """Show each order's moves until all are over, or nothing has moved for too long."""
    started = last_move = time.monotonic()
    # Elsewhere than on a terminal a table would be printed once, at the end.
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext():
        while not all(each.is_over for each in journeys):
            for each in journeys:
                if each.is_over:
                    continue
                seen = len(each.events)
                each.events = api.call("GET", f"/api/orders/{each.id}/events")["events"]
                if len(each.events) > seen:
                    last_move = time.monotonic()
                if not live:
                    for event in each.events[seen:]:
                        seconds = time.monotonic() - started
                        console.print(
                            f"{seconds:5.1f} s  {each.id}  {event['status']:<16}  "
                            f"{each.description}"
                        )
            if live:
                live.update(_table(journeys), refresh=True)
            if time.monotonic() - last_move > _PATIENCE:
                console.print(f"Nothing has moved for {_PATIENCE:g} s.", style="red")
                return
            time.sleep(_INTERVAL)


def _table(journeys: Sequence[_Journey]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("ORDER")
    for status in WAY:
        table.add_column(status.replace("_", " ").upper(), justify="center")
    for each in journeys:
        steps = ("[green]●[/]" if status in each.statuses else "·" for status in WAY)
        table.add_row(each.description, *steps)
    return table
