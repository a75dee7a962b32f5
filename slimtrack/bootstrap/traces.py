"""Says where the spans of a process go."""

from slimtrack.settings import Settings
from slimtrack.telemetry import tracing


def record_traces(settings: Settings, *, process: str) -> None:
    """Record traces from now on, if that is configured; call it after the fork."""
    tracing.configure(
        endpoint=settings.traces_endpoint,
        per_second=settings.traces_per_second,
        service=f"slimtrack-{process}",
        environment=settings.environment,
    )
