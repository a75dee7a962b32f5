"""Reports of errors that a person has to look into; to Sentry, where somebody wants them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from slimtrack.domain.dead_letter import StoredDeadLetter


class Reporter(Protocol):
    """What passes reports on."""

    def report(
        self, error: BaseException, *, fingerprint: str | None, facts: Mapping[str, str]
    ) -> None:
        """Take a report; never waits, never raises."""

    def flush(self) -> None:
        """Wait for what was taken, but not for long."""


#: None, or the one of this process.
_reporters: Final[list[Reporter]] = []


def configure(*, dsn: str, environment: str, is_expected: Callable[[BaseException], bool]) -> None:
    """Report from now on, also what nobody catches; without a DSN nothing is.

    Called once in a process, after any fork.

    Args:
        dsn: Sentry's address, with the key for it.
        environment: where this runs, in the words of whoever reads the reports.
        is_expected: whether an error heals by itself, or was reported before.
    """
    if dsn and not _reporters:
        # Whoever wants no reports does not pay for what makes them.
        from slimtrack.telemetry.sentry import Sentry  # noqa: PLC0415

        _reporters.append(Sentry(dsn, environment=environment, is_expected=is_expected))


def report(error: BaseException, *, fingerprint: str | None = None, **facts: object) -> None:
    """Report an error that nobody handles, with facts that are no caller's data.

    Those of one fingerprint are one problem; unless it is given, it is that of the error.
    """
    for reporter in _reporters:
        reporter.report(
            error,
            fingerprint=fingerprint,
            facts={name: str(fact) for name, fact in facts.items() if fact is not None},
        )


def report_dead_letters(
    error: BaseException,
    stored: Iterable[StoredDeadLetter],
    *,
    stage: str,
    fingerprint: str | None = None,
    trace_id: str | None = None,
) -> None:
    """Report what was given up because of an error, each row for itself."""
    for letter in stored:
        report(
            error,
            fingerprint=fingerprint,
            dead_letter=letter.id,
            order_id=letter.order_id,
            stage=stage,
            attempt=letter.attempts,
            correlation_id=letter.correlation_id,
            trace_id=trace_id,
        )


def flush() -> None:
    """Wait for the reports under way, but not for long; a process that ends calls it by itself."""
    for reporter in _reporters:
        reporter.flush()
