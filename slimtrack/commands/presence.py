"""The processes of a system that the environment names, wherever they run."""

from datetime import timedelta

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimtrack import bootstrap
from slimtrack.commands.options import Exit
from slimtrack.settings import Settings
from slimtrack.use_cases.heartbeats import is_alive, who_works


def show_presence(settings: Settings, *, as_json: bool) -> None:
    """Print what each process last said of itself, and which work nobody does.

    Raises:
        UnavailableError: the database does not answer.
        typer.Exit: not all is well, as `status` says of a stack.
    """
    with bootstrap.open_presence(settings) as presence:
        found = presence.list()
    working = who_works(found)
    running, ready = any(map(is_alive, found)), all(working.values())
    if as_json:
        processes = [
            {**each._asdict(), "phase": "ready" if is_alive(each) else "stalled"} for each in found
        ]
        document = {"running": running, "ready": ready, "working": working, "processes": processes}
        typer.echo(msgspec.json.format(msgspec.json.encode(document)))
    else:
        table = Table(box=None, pad_edge=False)
        for title in ("PROCESS", "STATE", "HOST", "VERSION"):
            table.add_column(title)
        for title in ("PID", "MEMORY", "FOR", "SEEN"):
            table.add_column(title, justify="right")
        table.add_column("QUEUES")
        for each in found:
            alive = is_alive(each)
            table.add_row(
                each.kind,
                Text("ready" if alive else "stalled", style="green" if alive else "yellow"),
                each.host,
                each.version,
                str(each.pid),
                f"{each.memory_bytes / 1e6:.0f} MB" if each.memory_bytes else "",
                str(timedelta(seconds=int((each.seen_at - each.started_at).total_seconds()))),
                f"{each.silent:.0f} s ago",
                " ".join(each.queues),
            )
        console = Console(soft_wrap=True)
        if found:
            console.print(table)
        for name, works in working.items():
            if not works:
                what = (
                    "There is no publisher"
                    if name == "publisher"
                    else f"No worker takes from {name}"
                )
                console.print(f"{what} that gives signs of life.")
    if not running:
        raise typer.Exit(Exit.NOT_RUNNING)
    if not ready:
        raise typer.Exit(Exit.AMISS)
