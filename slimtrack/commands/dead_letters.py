"""The inspection of dead letters: look at them, replay them, put them away."""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from slimtrack.bootstrap import open_dead_letters
from slimtrack.commands.options import UNITS, AsJsonLines, Operator, Reason, action_of, age_of
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.order import STAGES, Status
from slimtrack.use_cases.dead_letters import OperationRepeatedError

app = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    help="Look at what was given up, replay it, or put it away.",
)


def _stage(text: str) -> Status:
    if text not in STAGES:
        raise typer.BadParameter(f"must be one of {', '.join(STAGES)}.")
    return Status(text)


def _order(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not the id of an order.") from error


Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Only these.")]
OrderId = Annotated[
    UUID | None, typer.Option("--order", parser=_order, metavar="ID", help="Only of this order.")
]
Stage = Annotated[
    Status | None, typer.Option(parser=_stage, metavar="STAGE", help="Only of this stage.")
]
Error = Annotated[str | None, typer.Option(help="Only with this text in their error.")]
Group = Annotated[str | None, typer.Option(help="Only of this group; see `groups`.")]
OlderThan = Annotated[
    float | None, typer.Option(parser=age_of, metavar="AGE", help="Only older ones: 90s, 2h, 3d.")
]
NewerThan = Annotated[
    float | None, typer.Option(parser=age_of, metavar="AGE", help="Only newer ones: 90s, 2h, 3d.")
]
Discarded = Annotated[bool, typer.Option("--discarded", help="Those that were discarded instead.")]
All = Annotated[bool, typer.Option("--all", help="Every one; needed where nothing else selects.")]
Operation = Annotated[
    str | None,
    typer.Option(help="A name for this one operation: a second run of that name does nothing."),
]


@app.command("list")
def list_(
    ids: Ids = None,
    order: OrderId = None,
    stage: Stage = None,
    error: Error = None,
    group: Group = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    discarded: Discarded = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, at most.")] = 50,
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """List dead letters, the oldest first."""
    selection = _select(ids, order, stage, error, group, older_than, newer_than, discarded)
    with open_dead_letters(read_settings(state_dir, only_looks=True)) as dead_letters:
        letters = list(dead_letters.read(selection, limit=limit))
        total = dead_letters.count(selection)
    if as_json:
        _print_json(letters)
        return
    for letter in letters:
        _print_entry(
            f"{letter.id}",
            *(letter.stage or letter.queue, str(letter.order_id or "a message of no order")),
            *(f"{letter.attempts} attempts", _ago(letter.died_at), letter.fingerprint),
            error=letter.error,
        )
    if not letters:
        typer.echo("There are no such dead letters.")
    if total > len(letters):
        typer.echo(f"{len(letters):,} of {total:,}; --limit shows more.")


@app.command()
def groups(
    order: OrderId = None,
    stage: Stage = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    discarded: Discarded = False,
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """Show dead letters by their cause, the most frequent first."""
    selection = _select(None, order, stage, error, None, older_than, newer_than, discarded)
    with open_dead_letters(read_settings(state_dir, only_looks=True)) as dead_letters:
        found = dead_letters.groups(selection)
    if as_json:
        _print_json(found)
        return
    for each in found:
        _print_entry(
            *(each.fingerprint, f"{each.count:,} dead letters", each.stage or "of no stage"),
            f"{_ago(each.first_died_at)} to {_ago(each.last_died_at)}",
            error=each.error,
        )
    if not found:
        typer.echo("There are no such dead letters.")


@app.command()
def show(
    letter_id: Annotated[int, typer.Argument(metavar="ID")],
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """Show one dead letter with all that is known of it."""
    with open_dead_letters(read_settings(state_dir, only_looks=True)) as dead_letters:
        letter = dead_letters.get(letter_id)
    if as_json:
        _print_json([letter])
        return
    for name, value in msgspec.structs.asdict(letter).items():
        if name != "traceback" and value is not None:
            typer.echo(f"{typer.style(f'{name:<16}', bold=True)}{_shown(value)}")
    if letter.traceback:
        typer.echo(f"\n{letter.traceback.rstrip()}")


@app.command()
def replay(
    ids: Ids = None,
    order: OrderId = None,
    stage: Stage = None,
    error: Error = None,
    group: Group = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    discarded: Discarded = False,
    everything: All = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="So many a second.", show_default="all at once"),
    ] = None,
    operation: Operation = None,
    reason: Reason = "",
    operator: Operator = None,
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """Make dead letters due again, with all their attempts before them.

    They move back into the outbox in one transaction. A message that names no row stays.
    """
    selection = _select(ids, order, stage, error, group, older_than, newer_than, discarded)
    _require_choice(selection, everything)
    action = action_of(operator, reason, operation=operation)
    with open_dead_letters(read_settings(state_dir)) as dead_letters:
        count = (
            dead_letters.count_rows(selection)
            if dry_run
            else _once(partial(dead_letters.replay, selection, action=action, rate=rate))
        )
    if as_json:
        _print_json([{"would_replay" if dry_run else "replayed": count}])
    else:
        typer.echo(f"{count:,} {'would be replayed' if dry_run else 'replayed'}")


@app.command()
def edit(
    letter_id: Annotated[int, typer.Argument(metavar="ID")],
    payload: Annotated[str, typer.Option(help="The new payload, a JSON object.")],
    operation: Operation = None,
    reason: Reason = "",
    operator: Operator = None,
    state_dir: StateDir = None,
) -> None:
    """Replace the payload that the work of the stage is handed at the next replay."""
    try:
        value = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"--payload is no JSON object: {error}.") from error
    with open_dead_letters(read_settings(state_dir)) as dead_letters:
        action = action_of(operator, reason, operation=operation)
        count = _once(partial(dead_letters.edit, letter_id, payload=value, action=action))
    typer.echo(f"{count} edited")


@app.command()
def discard(
    reason: Reason,
    ids: Ids = None,
    order: OrderId = None,
    stage: Stage = None,
    error: Error = None,
    group: Group = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: All = False,
    operation: Operation = None,
    operator: Operator = None,
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """Put dead letters away for good.

    They are kept, with the reason, and account for their orders.
    """
    selection = _select(ids, order, stage, error, group, older_than, newer_than, False)
    _require_choice(selection, everything)
    action = action_of(operator, reason, operation=operation, needs_reason=True)
    with open_dead_letters(read_settings(state_dir)) as dead_letters:
        count = _once(partial(dead_letters.discard, selection, action=action))
    if as_json:
        _print_json([{"discarded": count}])
    else:
        typer.echo(f"{count:,} discarded")


@app.command()
def export(
    ids: Ids = None,
    order: OrderId = None,
    stage: Stage = None,
    error: Error = None,
    group: Group = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    discarded: Discarded = False,
    to: Annotated[Path | None, typer.Option(help="A file.", show_default="standard output")] = None,
    state_dir: StateDir = None,
) -> None:
    """Write dead letters as JSON lines, in bounded memory."""
    selection = _select(ids, order, stage, error, group, older_than, newer_than, discarded)
    count = 0
    with open_dead_letters(read_settings(state_dir, only_looks=True)) as dead_letters:
        try:
            file = to.open("wb") if to else sys.stdout.buffer
        except OSError as error_:
            raise typer.BadParameter(f"{to} cannot be written: {error_.strerror}.") from error_
        for letter in dead_letters.read(selection):
            file.write(msgspec.json.encode(letter) + b"\n")
            count += 1
        file.close() if to else file.flush()
    typer.echo(f"{count:,} exported", err=True)


def _select(
    ids: list[int] | None,
    order: UUID | None,
    stage: Status | None,
    error: str | None,
    group: str | None,
    older_than: float | None,
    newer_than: float | None,
    discarded: bool,
) -> Selection:
    return Selection(
        ids=tuple(ids) if ids else None,
        order_id=order,
        stage=stage,
        error=error,
        fingerprint=group,
        older_than=older_than,
        newer_than=newer_than,
        discarded=discarded,
    )


def _require_choice(selection: Selection, everything: bool) -> None:
    chosen = selection != Selection(discarded=selection.discarded)
    if chosen == everything:
        raise typer.BadParameter("Say which: ids or filters, or --all for every one.")


def _once(act: Callable[[], int]) -> int:
    try:
        return act()
    except OperationRepeatedError as repeated:  # it did what was wanted, if not now
        typer.echo(str(repeated), err=True)
        return 0


def _print_entry(name: str, *facts: str, error: str) -> None:
    """Print two lines: nothing that a next command needs is ever cut to fit a table."""
    typer.echo(f"{typer.style(name, bold=True)}  {'  '.join(facts)}")
    typer.secho(f"    {next(iter(error.splitlines()), '')}", fg="red")


def _print_json(values: Iterable[object]) -> None:
    for value in values:
        typer.echo(msgspec.json.encode(value))


def _ago(time: datetime) -> str:
    seconds = (datetime.now(UTC) - time).total_seconds()
    for unit, size in reversed(UNITS.items()):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit} ago"
    return "now"


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    if isinstance(value, bytes):
        return repr(value)
    return str(value) if not isinstance(value, dict) else msgspec.json.encode(value).decode()
