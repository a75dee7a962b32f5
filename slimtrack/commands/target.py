"""Which system a command works on: the one that the environment names, or the running stack."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from slimtrack.domain.errors import SettingsError, StackError
from slimtrack.environment import find, variables_of
from slimtrack.local.state import StackState, running_stack
from slimtrack.settings import STATE_DIRECTORY, Settings, unknown_in
from slimtrack.stack.directory import default_directory
from slimtrack.stack.provision import POSTGRESQL

#: The option that all commands share which deal with a local stack.
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the local stack keeps its state.",
        envvar=STATE_DIRECTORY.name,
        show_default="/var/lib/slimtrack, or ~/.local/state/slimtrack",
    ),
]


def directory_of(state_dir: Path | None) -> Path:
    """Return the state directory that a command was given, or the usual one."""
    return state_dir.absolute() if state_dir else default_directory(os.environ)


def read_settings(state_dir: Path | None = None, *, only_looks: bool = False) -> Settings:
    """Read the settings of whatever a command works on.

    Where the environment names no database, or that of the running stack, the command does
    exactly as the stack does, whatever else is set here: an order that it places has the
    same delays and events as any other.

    Args:
        state_dir: of the stack.
        only_looks: the command changes nothing, and is not given the right to.

    Raises:
        SettingsError: a setting is wrong.
        StackError: the environment names no database, and no stack runs.
    """
    directory = directory_of(state_dir)
    stack = stack_meant(directory)
    if stack:
        environment = stack.environment
        if only_looks and stack.readonly_url:
            environment = {**environment, POSTGRESQL.url_variable: stack.readonly_url}
        return Settings.from_environment(environment)
    if variables_of(POSTGRESQL.url_variable, os.environ, secret=True):
        return Settings.from_environment()
    raise StackError(
        f"No DATABASE_URL is set, and no stack is running in {directory}. "
        "Start one with `slimtrack up`."
    )


def stack_meant(directory: Path) -> StackState | None:
    """Return the stack of a directory if it runs, and the environment names no other database."""
    stack = running_stack(directory)
    if not stack or not stack.environment:
        return None
    try:
        named = find(POSTGRESQL.url_variable, os.environ, secret=True)
    except SettingsError:  # whoever reads the settings tells it, with all else that is wrong
        return None
    its = find(POSTGRESQL.url_variable, stack.environment, secret=True)
    return stack if not named or (its and named.text == its.text) else None


def describe_unknown(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that looks like a setting and is none."""
    return [
        f"{name} is no setting and means nothing here"
        + (f"; the one most like it is {nearest}." if nearest else ".")
        for name, nearest in unknown_in(environment).items()
    ]
