"""The door of the workers: ``dramatiq slimtrack.worker:setup --queues …``."""

import dramatiq

from slimtrack.bootstrap import worker
from slimtrack.settings import Settings


def setup() -> None:
    """Build the broker and its actors from the environment; Dramatiq calls it after the fork."""
    dramatiq.set_broker(worker.create_broker(Settings.from_environment()))
