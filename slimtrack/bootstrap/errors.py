"""Says of which errors a process reports."""

from slimtrack.domain.errors import UnavailableError
from slimtrack.outbox.running import ThreadEndedError
from slimtrack.settings import Settings
from slimtrack.sql.errors import is_infrastructure
from slimtrack.telemetry import errors


def report_errors(settings: Settings) -> None:
    """Report errors from now on, if that is configured; call it after the fork."""
    errors.configure(
        dsn=settings.sentry_dsn, environment=settings.environment, is_expected=_is_expected
    )


def _is_expected(error: BaseException) -> bool:
    # A server that is away comes back. What ended a thread has been reported by itself.
    return is_infrastructure(error) or isinstance(error, UnavailableError | ThreadEndedError)
