"""What the API offers: every operation, and the problems that each may be answered with."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from slimtrack.domain.access import Scope
from slimtrack.domain.event import MAX_EVENTS, MAX_REMARKS
from slimtrack.domain.order import Order
from slimtrack.domain.outcome import Outcome, reference_of
from slimtrack.domain.timeline import Timeline
from slimtrack.http import bulk, flow, health, orders, queries, schemas
from slimtrack.http.body import MAX_BODY, MAX_BULK_BODY

_ORDER: Final = "/api/orders/{order}"

#: When each kind of problem occurs. Those of what no operation decides are the same everywhere.
WHEN: Final[Mapping[str, str]] = {
    "malformed-body": "The body is not JSON.",
    "malformed-request": "The request is not HTTP/1.1 as it should be.",
    "invalid-query": "A query parameter is wrong.",
    "invalid-header": "A header is wrong.",
    "unauthenticated": "There is no valid API key.",
    "forbidden": "The API key lacks the scope.",
    "order-not-found": "There is no such order, or it is another tenant's.",
    "not-acceptable": "Accept allows none of what is answered here.",
    "transition-not-allowed": "The order cannot go there from where it is.",
    "history-full": f"The order has {MAX_EVENTS:,} events, or {MAX_REMARKS:,} and this would not"
    " move it.",
    "reference-taken": "Another order has the reference.",
    "idempotency-key-in-use": "A request with this key is being worked on.",
    "stale-version": "The order has changed; If-Match named an older version.",
    "body-too-large": f"The body is larger than {MAX_BODY >> 10} KiB"
    f" (many orders: {MAX_BULK_BODY >> 20} MiB).",
    "unsupported-body": "The body is not of a type that is read here.",
    "invalid-order": "A field of the order is wrong.",
    "invalid-bulk": "The body is no array of orders, or has too many.",
    "invalid-cancellation": "A field of the cancellation is wrong.",
    "invalid-report": "A field of the report is wrong.",
    "invalid-correction": "A field of the correction is wrong, or there is no such event.",
    "idempotency-key-reused": "The key was used before, for another request.",
    "rate-limited": "The API key has used up its requests.",
    "unavailable": "The database does not answer.",
    "path-not-found": "There is nothing at this path.",
    "method-not-allowed": "There is no such method here.",
    "path-too-long": "The first line of the request is too long.",
    "headers-too-large": "A header is too long, or there are too many.",
    "unmet-expectation": "Expect is something else than 100-continue.",
    "unsupported-transfer-encoding": "Transfer-Encoding is something else than chunked.",
    "internal-error": "Something went wrong on our side; request_id leads to the cause.",
}
#: What each test order meets with.
_TESTS: Final[Mapping[Outcome, str]] = {
    Outcome.FAILS_ONCE: "the stage in_transit fails once, and is tried again",
    Outcome.FAILS_ALWAYS: "it fails at every attempt, and ends as a dead letter",
    Outcome.SLOW: "it is due 30 s later than usual",
    Outcome.DELIVERY_FAILED: "the first delivery fails, the second succeeds",
    Outcome.RETURNED: "every delivery fails, and the parcel is returned",
    Outcome.CANCELLED: "it is cancelled while it is being brought to in_transit",
}
_TEST_REFERENCES: Final = "; ".join(
    f"{reference_of(outcome)} ({meets})" for outcome, meets in _TESTS.items()
)
_ANYWHERE: Final = (
    *("malformed-request", "method-not-allowed", "not-acceptable"),
    *("path-too-long", "headers-too-large", "unmet-expectation", "internal-error"),
    "unsupported-transfer-encoding",
)
_WITH_KEY: Final = ("unauthenticated", "forbidden", "rate-limited", "unavailable")
_WITH_BODY: Final = (
    *("malformed-body", "body-too-large", "unsupported-body"),
    *("invalid-header", "idempotency-key-in-use", "idempotency-key-reused"),
)
_CHANGE: Final = ("order-not-found", "stale-version", "transition-not-allowed", "history-full")


class Operation(NamedTuple):
    """One method of a path."""

    resource: Any
    method: str
    path: str
    name: str
    summary: str
    description: str
    answer: type
    status: int = 200
    body: type | None = None
    parameters: Sequence[str] = ()
    own_problems: Sequence[str] = ()
    headers: Sequence[str] = ()

    @property
    def scope(self) -> Scope | None:
        """The scope that it needs, as its resource says."""
        scope: Scope | None = self.resource.scopes[self.method]
        return scope

    @property
    def problems(self) -> Sequence[str]:
        """Every kind of problem that it may be answered with."""
        return (
            *_ANYWHERE,
            *(_WITH_KEY if self.scope else ()),
            *(_WITH_BODY if self.body else ()),
            *self.own_problems,
        )


OPERATIONS: Final = (
    Operation(
        resource=orders.OrderCollection,
        method="POST",
        path="/api/orders",
        name="place_order",
        summary="Place an order",
        description="One reference makes one order: a second one with it is refused with the id"
        f" of the first. A simulated order with one of these references is a test order:"
        f" {_TEST_REFERENCES}. More may follow after a slash, so that each can be used many times:"
        " test:returned/17. A stage that was given work of its own ignores these references.",
        answer=Order,
        status=201,
        body=schemas.PlaceOrder,
        parameters=("Idempotency-Key",),
        own_problems=("invalid-order", "reference-taken"),
        headers=("Location", "ETag"),
    ),
    Operation(
        resource=orders.OrderCollection,
        method="GET",
        path="/api/orders",
        name="list_orders",
        summary="List orders",
        description="Newest first. Page by number (page, page_size), or by cursor (limit, then the"
        " cursor of each answer), which orders that arrive meanwhile do not shift. The last page is"
        " the one without a next_cursor: before it, one that asks for metadata or times of change"
        " may have room left, or be empty.",
        answer=schemas.OrderPage,
        parameters=queries.PARAMETERS,
        own_problems=("invalid-query",),
        headers=("Link",),
    ),
    Operation(
        resource=bulk.OrderBulk,
        method="POST",
        path="/api/orders/bulk",
        name="place_orders",
        summary=f"Place up to {bulk.MAX_ORDERS:,} orders",
        description="Each row has a result of its own, in the order given. A row may have an"
        " idempotency_key of its own beside the header for the whole request. With curl, send lines"
        " with --data-binary: -d takes the line ends away.",
        answer=bulk.BulkResults,
        body=schemas.BulkOrder,
        parameters=("Idempotency-Key",),
        own_problems=("invalid-bulk",),
    ),
    Operation(
        resource=orders.OrderItem,
        method="GET",
        path=_ORDER,
        name="get_order",
        summary="Get an order",
        description="By its id or its tracking code.",
        answer=Order,
        parameters=("order", "If-None-Match"),
        own_problems=("order-not-found",),
        headers=("ETag",),
    ),
    Operation(
        resource=orders.OrderHistory,
        method="GET",
        path=f"{_ORDER}/events",
        name="get_history",
        summary="Get an order's history",
        description="Every event of the order, oldest first.",
        answer=schemas.History,
        parameters=("order",),
        own_problems=("order-not-found",),
    ),
    Operation(
        resource=orders.OrderTimeline,
        method="GET",
        path=f"{_ORDER}/timeline",
        name="get_timeline",
        summary="Get an order's timeline",
        description="The history of the order, and what happened behind it: when each stage was"
        " promised, due and published, attempts that failed, what operators did, and what is"
        " awaited now. Each entry comes after what caused it, and names the request that it follows"
        " from. What errors say, and who operators are, is only for keys with the scope"
        f" {Scope.OPERATOR}.",
        answer=Timeline,
        parameters=("order",),
        own_problems=("order-not-found",),
    ),
    Operation(
        resource=orders.OrderCancellation,
        method="POST",
        path=f"{_ORDER}/cancel",
        name="cancel_order",
        summary="Cancel an order",
        description="Possible while it is received or processing. The body may be left out.",
        answer=Order,
        body=schemas.CancelOrder,
        parameters=("order", "Idempotency-Key", "If-Match"),
        own_problems=("invalid-cancellation", *_CHANGE),
        headers=("ETag",),
    ),
    Operation(
        resource=orders.OrderReports,
        method="POST",
        path=f"{_ORDER}/reports",
        name="report",
        summary="Report what happened",
        description="What a scanner or a courier says. The order moves if it may; what it has"
        " passed already is kept in the history as late; an impossible move is a 409 that lists the"
        " possible ones."
        " Give the attempt with what is about a delivery, so that a repeated delivery_failed of one"
        " attempt is not taken for the failure of the next.",
        answer=Order,
        body=schemas.MakeReport,
        parameters=("order", "Idempotency-Key", "If-Match"),
        own_problems=("invalid-report", *_CHANGE),
        headers=("ETag",),
    ),
    Operation(
        resource=orders.OrderCorrections,
        method="POST",
        path=f"{_ORDER}/corrections",
        name="correct",
        summary="Correct the history",
        description="Says that an earlier event was wrong. The event itself stays as it is.",
        answer=Order,
        body=schemas.CorrectEvent,
        parameters=("order", "Idempotency-Key", "If-Match"),
        own_problems=("invalid-correction", "order-not-found", "stale-version", "history-full"),
        headers=("ETag",),
    ),
    Operation(
        resource=flow.FlowDocument,
        method="GET",
        path="/api/flow",
        name="get_flow",
        summary="Get the statuses and moves",
        description="Every status and every move between them; with format=mermaid, or where"
        " Accept prefers it, as a diagram.",
        answer=flow.Moves,
        parameters=("format",),
        own_problems=("invalid-query",),
    ),
    Operation(
        resource=health.LivenessProbe,
        method="GET",
        path="/health/live",
        name="get_liveness",
        summary="Ask whether the process answers",
        description="200 if it does.",
        answer=health.Health,
    ),
    Operation(
        resource=health.ReadinessProbe,
        method="GET",
        path="/health/ready",
        name="get_readiness",
        summary="Ask whether the process can work",
        description="Ready, degraded or, with a 503, unavailable. Degraded: a server is away that"
        " can be done without, or no publisher, or no worker of a queue, has given a sign of life"
        " for 13 s. Orders are accepted all the same, and wait.",
        answer=health.Readiness,
    ),
)
