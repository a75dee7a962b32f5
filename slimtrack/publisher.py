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
    try:
        publisher.run_publisher(Settings.from_environment(), stopping)
    except BaseException:
        _limit_stop()  # Python waits for the jobs, one of which may take minutes
        raise


def _wait_for_signal(stopping: threading.Event) -> None:
    signal.sigwait(_SIGNALS)
    _limit_stop()
    stopping.set()


def _limit_stop() -> None:
    """Let a stop that hangs end all the same, and say on standard error where it was."""
    faulthandler.dump_traceback_later(_STOP_LIMIT, exit=True)


if __name__ == "__main__":
    main()
