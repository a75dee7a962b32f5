"""The door of the publisher: ``python -m slimtrack.publisher``."""

import signal
import threading

from slimtrack.bootstrap import publisher
from slimtrack.settings import Settings


def main() -> None:
    """Publish the outbox until SIGTERM or SIGINT."""
    stopping = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda _signal, _frame: stopping.set())
    publisher.run_publisher(Settings.from_environment(), stopping)


if __name__ == "__main__":
    main()
