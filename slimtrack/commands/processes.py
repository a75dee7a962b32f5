"""One command for each process, for people who have a supervisor of their own."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import typer

from slimtrack import bootstrap
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.telemetry import logs

#: Dramatiq reads these when it is imported: wait half a second, not three, before a lost
#: connection is made again; take two messages for each thread, since each of them is a set.
_RESTART_DELAY: Final = "500"
_PREFETCH: Final = 2
#: Milliseconds that a running set has to finish. A thread that cannot store a failure sleeps 5 s.
_SHUTDOWN_TIMEOUT: Final = "10000"


def migrate() -> None:
    """Apply the migrations that the database lacks."""
    applied = bootstrap.migrate(_settings())
    for name in applied:
        typer.echo(f"Applied {name}.")
    if not applied:
        typer.echo("The database is up to date.")


def api() -> None:
    """Run the API under gunicorn, after the migrations."""
    bootstrap.migrate(_settings())
    _become("gunicorn", "--config", "python:slimtrack.http.server", "slimtrack.wsgi:create_app()")


def publisher() -> None:
    """Run a publisher, after the migrations."""
    bootstrap.migrate(_settings())
    _become("slimtrack.publisher")


def worker(
    queues: Annotated[
        list[str] | None, typer.Option(help="A queue to work on; again for more. Default: all.")
    ] = None,
) -> None:
    """Run a group of worker processes under Dramatiq, after the migrations."""
    settings = _settings()
    _check_queues(queues or [])
    bootstrap.migrate(settings)
    threads = settings.worker_threads
    os.environ["dramatiq_restart_delay"] = _RESTART_DELAY  # noqa: SIM112 - Dramatiq's name
    os.environ["dramatiq_queue_prefetch"] = str(threads * _PREFETCH)  # noqa: SIM112 - as above
    _become(
        "dramatiq",
        "slimtrack.worker:setup",
        *("--processes", str(settings.worker_processes)),
        *("--threads", str(threads)),
        *("--worker-shutdown-timeout", _SHUTDOWN_TIMEOUT),
        "--skip-logging",
        *(("--queues", *queues) if queues else ()),
    )


def _settings() -> Settings:
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level, form=settings.log_format)
    return settings


def _check_queues(queues: Sequence[str]) -> None:
    for queue in queues:
        if queue not in BY_QUEUE:
            raise typer.BadParameter(f"There is no queue {queue}; there are {', '.join(BY_QUEUE)}.")


def _become(module: str, *arguments: str) -> NoReturn:
    """Let another program take this process's place, so that signals reach it."""
    os.execv(sys.executable, (sys.executable, "-m", module, *arguments))  # noqa: S606 - no shell is wanted
