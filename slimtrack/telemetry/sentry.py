"""Sentry: takes reports of errors, and nothing that belongs to a caller."""

import atexit
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, cast

import sentry_sdk
import structlog
from sentry_sdk.types import Event, Hint

from slimtrack import __version__
from slimtrack.domain.retry import fingerprint as fingerprint_of
from slimtrack.domain.retry import without_particulars
from slimtrack.telemetry.scrubbing import without_quotations

_log: Final = structlog.get_logger()

#: Seconds in which the end of a process waits for reports under way.
_FLUSH_TIMEOUT: Final = 2.0
#: Reports that wait to be sent; more are dropped, as the dead letters are in the database.
_MOST_WAITING: Final = 200
#: All that a report has. Without the integrations of the SDK nobody adds more; this holds it.
_SENT: Final = (
    *("event_id", "timestamp", "platform", "level", "exception", "fingerprint", "tags"),
    *("release", "environment", "server_name", "sdk"),
)


class Sentry:
    """Sends reports from a thread of the SDK's own; also of errors that nobody catches.

    None of the SDK's integrations is on: they report what is logged, every attempt of a message
    and the requests of callers.

    Args:
        dsn: Sentry's address, with the key for it.
        environment: where this runs.
        is_expected: whether an error is of no interest.
    """

    def __init__(
        self, dsn: str, *, environment: str, is_expected: Callable[[BaseException], bool]
    ) -> None:
        self._is_expected = is_expected
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=f"slimtrack@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            before_send=_only_ours,
            send_default_pii=False,
            include_local_variables=False,
            include_source_context=False,  # stages may have work that is not ours to show
            max_request_body_size="never",
            max_breadcrumbs=0,
            traces_sample_rate=None,
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            spotlight=False,
            transport_queue_size=_MOST_WAITING,
            in_app_include=["slimtrack"],
        )
        self._watch_threads()
        self._watch_process()
        atexit.register(self.flush)

    def report(
        self, error: BaseException, *, fingerprint: str | None, facts: Mapping[str, str]
    ) -> None:
        """Hand a report to the SDK's thread; never waits, never raises."""
        if self._is_expected(error):
            return
        try:
            group = fingerprint or fingerprint_of(error)
            sentry_sdk.capture_exception(error, fingerprint=[group], tags=dict(facts))
        except Exception:  # noqa: BLE001 - whatever it is, what is reported goes on
            _log.warning("error.unreported", exc_info=True)

    def flush(self) -> None:
        """Wait for the reports under way, but not for long."""
        sentry_sdk.flush(timeout=_FLUSH_TIMEOUT)

    def _report_uncaught(self, error: BaseException | None, **facts: str) -> None:
        # Neither Ctrl-C nor an exit is an error.
        if isinstance(error, Exception):
            self.report(error, fingerprint=None, facts=facts)

    def _watch_process(self) -> None:
        earlier = sys.excepthook

        def on_uncaught(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            earlier(kind, error, trace)
            self._report_uncaught(error)

        sys.excepthook = on_uncaught

    def _watch_threads(self) -> None:
        earlier = threading.excepthook

        def on_uncaught(uncaught: threading.ExceptHookArgs) -> None:
            earlier(uncaught)
            name = uncaught.thread.name if uncaught.thread else "unknown"
            self._report_uncaught(uncaught.exc_value, thread=name)

        threading.excepthook = on_uncaught


def _only_ours(event: Event, hint: Hint) -> Event:
    """Keep of an event what a report has, and of what errors say only what is no caller's."""
    del hint
    kept: dict[str, Any] = {name: value for name, value in event.items() if name in _SENT}
    for error in kept.get("exception", {}).get("values", ()):
        # Without ids and numbers as well: reports of one cause read the same.
        error["value"] = without_particulars(without_quotations(error.get("value") or ""))
        for frame in (error.get("stacktrace") or {}).get("frames", ()):
            frame.pop("vars", None)
    return cast("Event", kept)
