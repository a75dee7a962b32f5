"""Every metric, declared once; docs/metrics.md says what each is for.

Labels have few values, and never an id. Series that are known beforehand are made here: what is
counted for every order looks up nothing.
"""

import platform
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from slimtrack import __version__
from slimtrack.domain.order import FINAL, STAGES, Status
from slimtrack.process import memory_of_this_process

#: Upper bounds of seconds: of one step, of what may wait for a delay or a server, and of an order.
_STEP: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_WAIT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0)
_ORDER: Final = (
    0.1,
    0.5,
    1,
    5,
    10,
    30,
    60,
    600,
    3_600,
    21_600,
    86_400,
    259_200,
    604_800,
    2_592_000,
)
#: Those of Dramatiq's own histogram, milliseconds.
_MILLISECONDS: Final = (
    *(5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000, 30000, 60000),
    *(600000, 900000),
)

_BUILD: Final = Gauge(
    "slimtrack_build_info",
    "Always 1; the labels say what runs.",
    ["version", "python"],
    multiprocess_mode="max",
)
_MEMORY: Final = Gauge(
    "slimtrack_memory_bytes",
    "Resident memory of the processes of a page, as they count it.",
    multiprocess_mode="livesum",
)

# The API.
HTTP_DURATION: Final = Histogram(
    "slimtrack_http_request_duration_seconds",
    "Seconds from a request's arrival in the app to its answer.",
    ["route", "method", "status"],
    buckets=_STEP,
)
ORDERS_ACCEPTED: Final = Counter("slimtrack_orders_accepted_total", "Orders that were placed.")
RATE_LIMIT_SKIPPED: Final = Counter(
    "slimtrack_rate_limit_skipped_total",
    "Requests that passed uncounted because Redis did not answer.",
)
CACHE_REQUESTS: Final = Counter(
    "slimtrack_cache_requests_total",
    "Histories that were looked up in Redis.",
    ["outcome"],
)

# Orders, wherever they move.
_TRANSITIONS: Final = Counter(
    "slimtrack_transitions_total", "Orders that reached a status after the first.", ["status"]
)
TRANSITIONS: Final[Mapping[Status, Counter]] = {
    status: _TRANSITIONS.labels(status) for status in Status if status is not Status.RECEIVED
}
_ORDER_DURATION: Final = Histogram(
    "slimtrack_order_duration_seconds",
    "Seconds from the placing of an order to its final status; of a set, that of the oldest.",
    ["status"],
    buckets=_ORDER,
)
ORDER_DURATION: Final[Mapping[Status, Histogram]] = {
    status: _ORDER_DURATION.labels(status) for status in FINAL
}

# The workers.
_APPLIED: Final = Histogram(
    "slimtrack_stage_due_to_applied_seconds",
    "Seconds from when a row was due to its effect; of a set, that of the row due first.",
    ["stage"],
    buckets=_WAIT,
)
APPLIED: Final[Mapping[Status, Histogram]] = {stage: _APPLIED.labels(stage) for stage in STAGES}
_DUPLICATES: Final = Counter(
    "slimtrack_duplicates_skipped_total",
    "Rows that a message named and that had nothing to do any more.",
    ["stage"],
)
DUPLICATES: Final[Mapping[Status, Counter]] = {stage: _DUPLICATES.labels(stage) for stage in STAGES}
RETRIES: Final = Counter(
    "slimtrack_retries_total",
    "Rows that were made due again after a failed attempt.",
    ["stage", "error"],
)
DELAYS: Final = Counter(
    "slimtrack_delays_total",
    "Rows that were made due again because a server was away.",
    ["stage"],
)
DEAD_LETTERS: Final = Counter(
    "slimtrack_dead_letters_total", "Rows and messages that were given up.", ["stage", "error"]
)
MESSAGES: Final = Counter(
    "dramatiq_messages_total",
    "Deliveries of messages to actors; each is a set of rows.",
    ["queue_name", "actor_name"],
)
MESSAGE_ERRORS: Final = Counter(
    "dramatiq_message_errors_total",
    "Deliveries of which some row failed.",
    ["queue_name", "actor_name"],
)
MESSAGE_REJECTS: Final = Counter(
    "dramatiq_message_rejects_total",
    "Messages that an actor's worker put aside.",
    ["queue_name", "actor_name"],
)
MESSAGES_IN_PROGRESS: Final = Gauge(
    "dramatiq_messages_inprogress",
    "Messages that actors work on.",
    ["queue_name", "actor_name"],
    multiprocess_mode="livesum",
)
MESSAGE_DURATION: Final = Histogram(
    "dramatiq_message_duration_milliseconds",
    "Milliseconds that actors work on a message.",
    ["queue_name", "actor_name"],
    buckets=_MILLISECONDS,
)

# The publisher.
_PUBLISHED: Final = Counter(
    "slimtrack_outbox_published_rows_total", "Rows that the broker has confirmed.", ["stage"]
)
PUBLISHED: Final[Mapping[Status, Counter]] = {stage: _PUBLISHED.labels(stage) for stage in STAGES}
PUBLISHED_MESSAGES: Final = Counter(
    "slimtrack_published_messages_total",
    "Sets and events that were sent to the broker, by what became of them.",
    ["kind", "outcome"],
)
CLAIM_DURATION: Final = Histogram(
    "slimtrack_outbox_claim_duration_seconds", "Seconds that a claim takes.", buckets=_STEP
)
_PUBLISH_LAG: Final = Histogram(
    "slimtrack_outbox_publish_lag_seconds",
    "Seconds from when a row was due to the broker's confirm; of a claim, that of the first due.",
    ["stage"],
    buckets=_WAIT,
)
PUBLISH_LAG: Final[Mapping[Status, Histogram]] = {
    stage: _PUBLISH_LAG.labels(stage) for stage in STAGES
}
REARMED: Final = Counter(
    "slimtrack_outbox_rearmed_rows_total", "Rows that were lost on their way and made due again."
)

# What the publisher finds where it looks. Each has a label, so that no other process has it as 0.
OLDEST_DUE: Final = Gauge(
    "slimtrack_outbox_oldest_due_seconds",
    "Seconds since the oldest row that waits to be published was due; 0 where none waits.",
    ["stage"],
)
DUE_ROWS: Final = Gauge(
    "slimtrack_outbox_due_rows", "Rows that are due, as far as 2,000.", ["stage"]
)
IN_FLIGHT_ROWS: Final = Gauge(
    "slimtrack_outbox_in_flight_rows",
    "Rows that are published and not worked on yet, as far as 2,000.",
    ["stage"],
)
DEAD_LETTERS_WAITING: Final = Gauge(
    "slimtrack_dead_letters_waiting",
    "Dead letters that nobody has decided about, as far as 2,000.",
    ["stage"],
)
STUCK_ROWS: Final = Gauge("slimtrack_stuck_rows", "Rows that are past their deadline.", ["stage"])
STRANDED_ORDERS: Final = Gauge(
    "slimtrack_stranded_orders",
    "Orders that nobody will ever work on, which should be impossible; looked for every hour.",
    ["flow"],
)
QUEUE_MESSAGES: Final = Gauge(
    "slimtrack_queue_messages", "Messages that wait in a queue of RabbitMQ.", ["queue"]
)
REFRESHED: Final = Gauge(
    "slimtrack_refreshed_timestamp_seconds",
    "When the gauges of a source were seen last, Unix time: outbox, queues, stuck, stranded.",
    ["source"],
)

#: What each look fills; and for how many seconds, without another one, that is worth showing.
_LOOKS: Final[Mapping[str, tuple[tuple[Gauge, ...], float]]] = {
    "outbox": ((OLDEST_DUE, DUE_ROWS, IN_FLIGHT_ROWS, DEAD_LETTERS_WAITING), 60.0),
    "queues": ((QUEUE_MESSAGES,), 60.0),
    "stuck": ((STUCK_ROWS,), 300.0),
    "stranded": ((STRANDED_ORDERS,), 10_800.0),
}
_seen: Final[dict[str, float]] = {}

# Connections to PostgreSQL.
POOL_CONNECTIONS: Final = Gauge(
    "slimtrack_pool_connections", "Connections there are.", ["pool"], multiprocess_mode="livesum"
)
POOL_CONNECTIONS_USED: Final = Gauge(
    "slimtrack_pool_connections_used",
    "Connections that somebody works with.",
    ["pool"],
    multiprocess_mode="livesum",
)
POOL_WAITING: Final = Gauge(
    "slimtrack_pool_waiting", "Threads that wait for one.", ["pool"], multiprocess_mode="livesum"
)

#: Types of errors that are told apart; work of somebody else's may raise any.
_MOST_ERRORS: Final = 50
_errors: Final[set[str]] = set()


def error_label(error_type: str) -> str:
    """Return the name of an error's type, or ``other`` where there are too many."""
    if len(_errors) < _MOST_ERRORS:
        _errors.add(error_type)
    return error_type if error_type in _errors else "other"


def measure_memory() -> None:
    """Note how much memory this process has, where anybody can tell."""
    memory = memory_of_this_process()
    if memory is not None:
        _MEMORY.set(memory)


def mark_seen(source: str) -> None:
    """Note that the gauges of a source are as they are now."""
    REFRESHED.labels(source).set_to_current_time()
    _seen[source] = time.monotonic()


def forget_stale(*, now: float | None = None) -> None:
    """Take away the gauges that have not been seen for long, but not the time when they were.

    A publisher that is cut off would show for ever what others know better.

    Args:
        now: by the monotonic clock; that of this moment unless it is given.
    """
    for source, (gauges, lifetime) in _LOOKS.items():
        seen = _seen.get(source)
        if seen is not None and (now or time.monotonic()) - seen > lifetime:
            for gauge in gauges:
                gauge.clear()
            del _seen[source]


def describe_build() -> None:
    """Say what runs."""
    _BUILD.labels(__version__, platform.python_version()).set(1)
