"""The command line: ``slimtrack …``."""

import sys
from typing import Annotated

import typer

from slimtrack import __version__
from slimtrack.commands import (
    access,
    audit,
    config,
    dead_letters,
    demo,
    events,
    importing,
    processes,
    prune,
    stack,
    track,
)
from slimtrack.domain.errors import SettingsError, SlimTrackError
from slimtrack.telemetry import logs

app = typer.Typer(
    name="slimtrack",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Track deliveries: orders in over REST, through their stages, every change an event.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"slimtrack {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Hold the options that come before a command."""
    del version
    # A process that a command becomes or starts has its own settings.
    logs.configure(level="warning", form="console", uncaught=False)


app.command(rich_help_panel="The local stack")(demo.demo)
app.command(rich_help_panel="The local stack")(stack.up)
app.command(rich_help_panel="The local stack")(stack.status)
app.command(rich_help_panel="The local stack")(stack.logs)
app.command(rich_help_panel="The local stack")(stack.down)
app.command("import", rich_help_panel="Orders")(importing.import_)
app.command(rich_help_panel="Orders")(track.track)
app.command(rich_help_panel="Orders")(events.events)
app.add_typer(access.keys, rich_help_panel="Access")
app.add_typer(access.tenants, rich_help_panel="Access")
app.add_typer(dead_letters.app, rich_help_panel="Operations")
app.command(rich_help_panel="Operations")(config.config)
app.command(rich_help_panel="Operations")(audit.audit)
app.command(rich_help_panel="Operations")(audit.stuck)
app.command(rich_help_panel="Operations")(audit.reconcile)
app.command(rich_help_panel="Operations")(prune.prune)
app.command(rich_help_panel="Single processes")(processes.migrate)
app.command(rich_help_panel="Single processes")(processes.api)
app.command(rich_help_panel="Single processes")(processes.publisher)
app.command(rich_help_panel="Single processes")(processes.worker)


def main() -> None:
    """Run the command line; what goes wrong is said in a line and an exit code."""
    try:
        app()
    except SlimTrackError as error:
        typer.secho(str(error), fg="red", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
