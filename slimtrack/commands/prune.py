"""The command that prunes orders which were finished long ago."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from slimtrack.bootstrap import open_pruning, report_errors
from slimtrack.commands.options import AsJsonLines, age_of
from slimtrack.commands.target import StateDir, read_settings
from slimtrack.use_cases.pruning import Plan, Pruned


def prune(
    older_than: Annotated[
        float,
        typer.Option(
            parser=age_of, metavar="AGE", help="Only what has not changed for so long: 90d, 12h."
        ),
    ],
    archive: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the orders in files there.", show_default="nowhere"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJsonLines = False,
    state_dir: StateDir = None,
) -> None:
    """Take finished orders of whole months out of the database, beside the running system.

    Orders stay that are not finished, have changed since, or for which something is to be done or
    decided. Run it again after whatever interrupted it: it goes on where it was.
    """
    settings = read_settings(state_dir)
    report_errors(settings)
    if archive and not archive.is_dir():
        raise typer.BadParameter(f"{archive} is no directory.", param_hint="--archive")
    with open_pruning(settings) as pruning:
        if dry_run or not yes:
            plans = pruning.plan(age=older_than)
            _print_plans(plans, as_json=as_json)
            if dry_run:
                return
            _ask(plans, archive)
        with Console(stderr=True, highlight=False).status("") as status:
            for pruned in pruning.prune(age=older_than, directory=archive, report=status.update):
                status.stop()  # it takes hold of what is printed meanwhile
                _print_pruned(pruned, as_json=as_json)
                status.start()


def _print_plans(plans: list[Plan], *, as_json: bool) -> None:
    if as_json:
        for plan in plans:
            typer.echo(msgspec.json.encode(plan))
        return
    for plan in plans:
        how = "to be dropped" if plan.dropped else "stays"
        typer.echo(
            f"{plan.partition}: {plan.orders:,} orders to be pruned, {plan.left:,} stay; "
            f"{plan.bytes / 1e6:,.0f} MB, {how}"
        )
    if not plans:
        typer.echo("There is nothing to prune.")


def _ask(plans: list[Plan], archive: Path | None) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("is needed where nobody can be asked.", param_hint="--yes")
    count = sum(plan.orders for plan in plans)
    what = f"keep them in {archive}" if archive else "they are kept nowhere"
    typer.confirm(f"Prune {count:,} orders ({what})?", abort=True)


def _print_pruned(pruned: Pruned, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(pruned))
        return
    where = f" into {pruned.file}" if pruned.file else ""
    how = "; dropped" if pruned.dropped else ""
    typer.echo(
        f"{pruned.partition}: {pruned.orders:,} orders, {pruned.events:,} events{where}{how}"
    )
