"""The door of the workers: ``python -m slimtrack.worker slimtrack.worker:setup --queues …``."""

import os
import sys

import dramatiq
from dramatiq import cli

from slimtrack.settings import Settings
from slimtrack.telemetry import logs
from slimtrack.telemetry.sharing import forget_metrics, share_metrics


def setup() -> None:
    """Build the broker and its actors from the environment; Dramatiq calls it after the fork."""
    settings = Settings.from_environment()
    if settings.metrics_bind:
        share_metrics(master=os.getppid())
    # It imports prometheus-client, which looks at the environment once.
    from slimtrack.bootstrap import worker  # noqa: PLC0415 - as above

    dramatiq.set_broker(worker.create_broker(settings))


def main() -> int | None:
    """Run Dramatiq, whose first process otherwise says in a form of its own how others ended."""
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level, form=settings.log_format)
    if settings.metrics_bind:
        # At SIGHUP it is the same process again, without those that it had before.
        forget_metrics(master=os.getpid())
    arguments = cli.make_argument_parser().parse_args()
    sys.argv = sys.orig_argv  # at SIGHUP it becomes this command again
    return cli.main(arguments)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
