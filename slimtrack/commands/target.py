"""Which system a command works on: the one that the environment names, or the running stack."""

import os
from pathlib import Path
from typing import Annotated

import typer

from slimtrack.domain.errors import StackError
from slimtrack.settings import Settings
from slimtrack.stack.directory import default_directory
from slimtrack.stack.state import running_stack

#: The option that all commands share which deal with a local stack.
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the local stack keeps its state.",
        envvar="SLIMTRACK_STATE_DIR",
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
    named = os.environ.get("DATABASE_URL")
    running = running_stack(directory)
    if running and running.environment and named in (None, "", running.environment["DATABASE_URL"]):
        environment = running.environment
        if only_looks and running.readonly_url:
            environment = {**environment, "DATABASE_URL": running.readonly_url}
        return Settings.from_environment(environment)
    if named:
        return Settings.from_environment()
    raise StackError(
        f"No DATABASE_URL is set, and no stack is running in {directory}. "
        "Start one with `slimtrack up`."
    )
