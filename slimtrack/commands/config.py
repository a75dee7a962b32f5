"""The settings as they take effect: config."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slimtrack.commands.options import AsJson
from slimtrack.commands.target import StateDir, describe_unknown, directory_of, stack_meant
from slimtrack.environment import Found, Source, find, mask
from slimtrack.settings import (
    STATE_DIRECTORY,
    Setting,
    Settings,
    declared_settings,
    special_settings,
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A setting as it takes effect; ``file`` is the one that holds it, if one does."""

    name: str
    value: str
    source: str
    file: str | None
    what: str


def config(
    as_json: AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the defaults, as docs/configuration.md does.")
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Show each setting, its value and where it comes from: 0 = all are right, 2 = some are not.

    Beside a running stack these are the stack's. No password is shown.
    """
    if markdown:
        typer.echo("\n".join(markdown_table()))
        return
    directory = directory_of(state_dir)
    stack = stack_meant(directory)
    environment = stack.environment if stack else os.environ
    for line in describe_unknown(environment):
        typer.secho(line, fg="yellow", err=True)
    Settings.from_environment(environment)
    rows = effective_rows(environment, set_by="stack" if stack else Source.ENVIRONMENT)
    rows.append(_row_of_directory(directory, given=state_dir))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)))
    else:
        _print(rows)


def effective_rows(environment: Mapping[str, str], *, set_by: str) -> list[Row]:
    """Return every setting as an environment without faults makes it, secrets masked.

    Args:
        environment: what a process has.
        set_by: who made it.
    """
    rows = []
    for setting in declared_settings():
        found = find(setting.name, environment, secret=setting.secret) or Found(
            setting.default or "", Source.DEFAULT
        )
        rows.append(
            Row(
                name=setting.name,
                value=mask(found.text) if setting.secret else found.text,
                source=set_by if found.source is Source.ENVIRONMENT else found.source,
                file=found.file,
                what=setting.what,
            )
        )
    return rows


def markdown_table() -> list[str]:
    """Return the lines of the table that lists every setting."""
    return [
        "| variable | default | meaning |",
        "|---|---|---|",
        *(_markdown_row(each) for each in declared_settings() + special_settings()),
    ]


def _markdown_row(setting: Setting) -> str:
    names = ", ".join(f"`{name}`" for name in setting.variables)
    default = f"`{setting.default}`" if setting.default else ""
    return f"| {names} | {default} | {setting.what} |"


def _row_of_directory(directory: Path, *, given: Path | None) -> Row:
    source: str = Source.DEFAULT
    if given:
        set_here = os.environ.get(STATE_DIRECTORY.name) == str(given)
        source = Source.ENVIRONMENT if set_here else "option"
    return Row(
        name=STATE_DIRECTORY.name,
        value=str(directory),
        source=source,
        file=None,
        what=STATE_DIRECTORY.what,
    )


def _print(rows: Sequence[Row]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # a line for each, for programs
    table = Table(box=None, pad_edge=False)
    table.add_column("SETTING", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    table.add_column("FROM", overflow="fold")
    table.add_column("WHAT IT IS")
    for row in rows:
        source = f"{row.source} {row.file}" if row.file else row.source
        style = "dim" if row.source == Source.DEFAULT else "bold"
        table.add_row(row.name, Text(row.value, style=style), Text(source), Text(row.what))
    console.print(table)
