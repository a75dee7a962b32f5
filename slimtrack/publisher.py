"""The door of the publisher: ``python -m slimtrack.publisher``."""

import faulthandler
import signal
import threading
from typing import Final

from slimtrack.bootstrap import publisher
from slimtrack.settings import Settings

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: Seconds that a stop may take; every wait on its way is shorter. Below the supervisors' own.
_STOP_LIMIT: Final = 25.0


def main() -> None:
    """Publish the outbox until SIGTERM or SIGINT."""
    # Not handlers: one that runs while this thread holds the event's lock would wait for ever.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    stopping = threading.Event()
    threading.Thread(target=_wait_for_signal, args=(stopping,), name="signals", daemon=True).start()
    publisher.run_publisher(Settings.from_environment(), stopping)


def _wait_for_signal(stopping: threading.Event) -> None:
    signal.sigwait(_SIGNALS)
    # A stop that hangs ends all the same, and says on standard error where it was.
    faulthandler.dump_traceback_later(_STOP_LIMIT, exit=True)
    stopping.set()


if __name__ == "__main__":
    main()
