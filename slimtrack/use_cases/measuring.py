"""What the use cases count of orders; always after the commit that made it so."""

from collections.abc import Iterable

from slimtrack.domain.order import FINAL, Order, Status
from slimtrack.sql.orders import Advanced, Observed
from slimtrack.telemetry import metrics, tracing


def count_advanced(stage: Status, reached: Status, advanced: Advanced, observed: Observed) -> None:
    """Count a set that a stage has brought to a status."""
    if not advanced.claimed:
        return
    metrics.TRANSITIONS[reached].inc(advanced.moved)
    metrics.APPLIED[stage].observe(observed.due)
    if advanced.moved and reached in FINAL:
        metrics.ORDER_DURATION[reached].observe(observed.placed)


def trace_advanced(stage: Status, observed: Observed, *, began: int) -> None:
    """Record those rows of a set that are traced."""
    tracer = tracing.active()
    if tracer and observed.traced:
        tracer.advance(observed.traced, stage=stage, began=began)


def count_moved(orders: Iterable[Order]) -> None:
    """Count orders that were moved from outside."""
    for order in orders:
        metrics.TRANSITIONS[order.status].inc()
        if order.status in FINAL:
            seconds = (order.updated_at - order.created_at).total_seconds()
            metrics.ORDER_DURATION[order.status].observe(max(seconds, 0.0))
