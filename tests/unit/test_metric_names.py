"""The metrics and their table in the documentation are the same."""

import time
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from slimtrack.telemetry import metrics

TABLE = Path(__file__).parents[2] / "docs/metrics.md"


def line_of(metric: Counter | Gauge | Histogram) -> str:
    [described] = metric.describe()
    name = f"{described.name}_total" if described.type == "counter" else described.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - no other way
    return f"| `{name}` | {described.type} | {labels} | {described.documentation} |"


def test_every_metric_is_documented_as_it_is() -> None:
    declared = [
        line_of(each)
        for each in vars(metrics).values()
        if isinstance(each, Counter | Gauge | Histogram)
    ]
    documented = [
        line
        for line in TABLE.read_text("utf-8").splitlines()
        if line.startswith(("| `slimtrack_", "| `dramatiq_"))
    ]
    assert len(declared) > 20
    assert documented == declared


def test_what_was_not_seen_for_long_is_not_shown_but_when_it_was() -> None:
    metrics.QUEUE_MESSAGES.labels("orders.processing").set(7)
    metrics.mark_seen("queues")
    now = time.monotonic()

    def shown() -> list[str]:
        page = generate_latest().decode()
        names = (
            "slimtrack_queue_messages{",
            'slimtrack_refreshed_timestamp_seconds{source="queues"',
        )
        return [name for name in names if name in page]

    metrics.forget_stale(now=now + 59)
    assert len(shown()) == 2
    metrics.forget_stale(now=now + 61)
    assert shown() == ['slimtrack_refreshed_timestamp_seconds{source="queues"']


def test_types_of_errors_are_told_apart_as_long_as_they_are_few() -> None:
    labels = {metrics.error_label(f"Error{number}") for number in range(1_000)}
    assert len(labels) <= 51
    assert metrics.error_label("Error0") == "Error0"
    assert metrics.error_label("Error999") == "other"
