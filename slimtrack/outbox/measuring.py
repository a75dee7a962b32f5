"""What is counted of messages."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from slimtrack.broker.publishing import Outcome
from slimtrack.telemetry import metrics


def count_outcomes(kind: Literal["set", "event"], outcomes: Sequence[Outcome]) -> None:
    """Count what became of published messages."""
    for outcome, count in Counter(outcomes).items():
        metrics.PUBLISHED_MESSAGES.labels(kind, outcome.name.lower()).inc(count)
