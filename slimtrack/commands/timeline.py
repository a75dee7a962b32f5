"""How a timeline is shown: a line for each entry, its time since the order was placed."""

from datetime import timedelta
from typing import Final

from rich.console import Console
from rich.text import Text

from slimtrack.domain.timeline import AWAITED, EntryKind, Timeline, TimelineEntry

_COLOURS: Final = {
    EntryKind.TRANSITION: "cyan",
    EntryKind.FAILED: "yellow",
    EntryKind.DELAYED: "yellow",
    EntryKind.REARMED: "yellow",
    EntryKind.DEAD_LETTER: "red",
    EntryKind.DISCARDED: "red",
    **dict.fromkeys(AWAITED, "green"),
}


def print_timeline(timeline: Timeline, *, console: Console) -> None:
    """Print a timeline; colours only where the console is a terminal."""
    first = timeline.entries[0].happened_at
    placed = first.astimezone().isoformat(sep=" ", timespec="seconds")
    console.print(f"{timeline.order_id}: {timeline.status}, placed {placed}")
    request: str | None = None
    for entry in timeline.entries:
        line = Text(f"{_since(entry.happened_at - first):>14}  ")
        line.append(f"{entry.kind:<14}", style=_COLOURS.get(entry.kind, ""))
        line.append(_told(entry))
        if entry.correlation_id and entry.correlation_id != request:
            request = entry.correlation_id
            line.append(f" [{request}]", style="dim")
        console.print(line)
    if timeline.left_out:
        console.print(f"{timeline.left_out:,} more that failed in between are not kept.")


def _told(entry: TimelineEntry) -> str:
    said = entry.message
    if entry.reason:
        said += f": {entry.reason}"
    if entry.operator:
        said += f" (by {entry.operator})"
    if entry.error:
        said += f" ({' '.join(entry.error.split())})"
    if entry.repeats and entry.repeated_at:
        within = (entry.repeated_at - entry.happened_at).total_seconds()
        said += f"; {entry.repeats} times more within {within:,.3f} s"
    if entry.due_at:
        begun = entry.repeated_at or entry.happened_at
        delay = entry.due_at - begun
        said += f", due {_in(delay)}"
    return said


def _since(passed: timedelta) -> str:
    return f"{passed.total_seconds():+,.3f} s"


def _in(delay: timedelta) -> str:
    seconds = delay.total_seconds()
    if seconds > 0:
        return f"in {seconds:,.3f} s"
    return f"{-seconds:,.3f} s ago" if seconds else "at once"
