"""Commands that check the system: audit, stuck, reconcile."""

import time
from typing import Annotated

import msgspec
import typer

from slimtrack.bootstrap import open_auditing
from slimtrack.broker.probes import count_messages
from slimtrack.broker.topology import dead_letter_queue
from slimtrack.commands.options import AsJson, Exit, Operator, Reason, action_of
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.routing import BY_QUEUE

_EXAMPLES = 3
#: Seconds in which the publisher drains what the broker has put aside, twice over.
_DRAIN = 12.0


def audit(as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """Check everything that must hold of every order: 0 = it does, 1 = something is broken.

    Safe beside the running system; a million orders take about a minute, and no memory to speak of.
    """
    settings = read_settings(state_dir, only_looks=True)
    with open_auditing(settings) as auditing:
        report = auditing.audit()
    report = msgspec.structs.replace(report, rejected=_count_undrained(settings.amqp_url))
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        for finding in report.findings:
            broken = len(finding.broken)
            word = typer.style(f"{broken:,} broken", fg="red") if broken else "ok"
            typer.echo(f"{word:<12} {finding.what}")
            for order_id in finding.broken[:_EXAMPLES]:
                typer.echo(f"{'':<13}{order_id}")
        broken = report.rejected or 0
        word = typer.style(f"{broken:,} broken", fg="red") if broken else "ok"
        if report.rejected is None:
            word = typer.style("unknown", fg="yellow")
        typer.echo(f"{word:<12} what RabbitMQ puts aside becomes a dead letter")
        typer.echo(_sum_of("orders", report.orders))
        typer.echo(_sum_of("rows", report.rows))
    if not report.is_clean:
        raise typer.Exit(Exit.AMISS)


def _sum_of(what: str, counts: dict[str, int]) -> str:
    parts = ", ".join(f"{count:,} {place}" for place, count in counts.items())
    return f"{sum(counts.values()):,} {what}{': ' if parts else ''}{parts}"


def _count_undrained(amqp_url: str) -> int | None:
    """Count what the broker has put aside, once the drain had the time to take it."""
    names = [dead_letter_queue(each) for each in BY_QUEUE]
    deadline = time.monotonic() + _DRAIN
    while (count := count_messages(amqp_url, names)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return count


def stuck(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, at most.")] = 50,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """List the orders whose next stage or event is past its deadline: 0 = none, 1 = some."""
    with open_auditing(read_settings(state_dir, only_looks=True)) as auditing:
        found = auditing.stuck(limit=limit)
    for each in found:
        if as_json:
            typer.echo(msgspec.json.encode(each._asdict()))
            continue
        since = each.since.astimezone().isoformat(sep=" ", timespec="seconds")
        typer.echo(
            f"{each.id}  {each.status}  waits for {each.stage} since {since}, "
            f"{each.attempts} attempts, {each.publications} publications"
        )
        if each.last_error:
            typer.secho(f"    {each.last_error.splitlines()[0]}", fg="red")
    if not found and not as_json:
        typer.echo("No order is stuck.")
    if found:
        raise typer.Exit(Exit.AMISS)


def reconcile(
    apply: Annotated[
        bool, typer.Option("--apply", help="Give them the row of their next stage again.")
    ] = False,
    reason: Reason = "",
    operator: Operator = None,
    state_dir: StateDir = None,
) -> None:
    """Find orders that nobody will ever work on: 0 = none or repaired, 1 = some.

    There should be none: if there are, something other than SlimTrack has changed its tables.
    """
    with open_auditing(read_settings(state_dir)) as auditing:
        found = auditing.find_stranded()
        repaired = 0
        if apply and found:
            action = action_of(operator, reason)
            repaired = auditing.repair(found, action=action)
    for order_id in found[:_EXAMPLES]:
        typer.echo(order_id)
    typer.echo(f"{len(found):,} stranded, {repaired:,} repaired")
    if repaired < len(found):
        raise typer.Exit(Exit.AMISS)
