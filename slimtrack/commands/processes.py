"""One command for each process, for people who have a supervisor of their own."""

import os
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import structlog
import typer

from slimtrack import bootstrap
from slimtrack.environment import find
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings, unknown_in
from slimtrack.sql.roles import Role
from slimtrack.stack.processes import (
    api_command,
    publisher_command,
    worker_command,
    worker_environment,
)
from slimtrack.telemetry import logs

_log: Final = structlog.get_logger()


def migrate() -> None:
    """Apply the migrations that the database lacks; let in the roles whose passwords are set."""
    settings, passwords = _settings(), _passwords()
    applied = bootstrap.migrate(settings)
    for name in applied:
        typer.echo(f"Applied {name}.")
    if not applied:
        typer.echo("The database is up to date.")
    if passwords:
        bootstrap.let_in(settings, passwords)
        typer.echo(f"{', '.join(passwords)} may log in.")


def api() -> None:
    """Run the API under gunicorn, after the migrations."""
    bootstrap.migrate(_settings())
    _become(api_command())


def publisher() -> None:
    """Run a publisher, after the migrations."""
    bootstrap.migrate(_settings())
    _become(publisher_command())


def worker(
    queues: Annotated[
        list[str] | None, typer.Option(help="A queue to work on; again for more. Default: all.")
    ] = None,
) -> None:
    """Run a group of worker processes under Dramatiq, after the migrations."""
    settings = _settings()
    _check_queues(queues or [])
    bootstrap.migrate(settings)
    os.environ.update(worker_environment(settings))
    _become(worker_command(settings, queues=queues or []))


def _passwords() -> dict[Role, str]:
    """Return the roles' passwords that are set, as in SLIMTRACK_API_PASSWORD for slimtrack_api."""
    found = {role: find(f"{role.upper()}_PASSWORD", os.environ, secret=True) for role in Role}
    return {role: password.text for role, password in found.items() if password}


def _settings() -> Settings:
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level, form=settings.log_format, uncaught=False)
    for name, nearest in unknown_in(os.environ).items():
        _log.warning("setting.ignored", setting=name, nearest=nearest)
    return settings


def _check_queues(queues: Sequence[str]) -> None:
    for queue in queues:
        if queue not in BY_QUEUE:
            raise typer.BadParameter(f"There is no queue {queue}; there are {', '.join(BY_QUEUE)}.")


def _become(command: tuple[str, ...]) -> NoReturn:
    """Let another program take this process's place, so that signals reach it."""
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
