"""What requests and answers look like."""

from typing import Any, Final

from slimtrack.domain.order import FINAL, TRANSITIONS, Status
from slimtrack.routing import BY_QUEUE

CODE: Final = "SL-7K3F-9QXM-2VPD-A"
ORDER_ID: Final = "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"
_MADE: Final = "2026-01-31T12:00:00.000Z"

ORDER: Final = {
    "id": ORDER_ID,
    "tracking_code": CODE,
    "reference": "PO-1",
    "description": "Espresso machine",
    "metadata": {"gift": "yes"},
    "flow": "simulated",
    "status": "received",
    "delivery_attempts": 0,
    "version": 1,
    "created_at": _MADE,
    "updated_at": _MADE,
}
#: By the name of the type that they are of.
EXAMPLES: Final[dict[str, Any]] = {
    "Order": ORDER,
    "OrderPage": {
        "orders": [ORDER],
        "page": None,
        "page_size": 1,
        "total": None,
        "next_cursor": "AZOKXnwde46aVz9tLECx6A",
    },
    "History": {
        "order_id": ORDER_ID,
        "events": [
            {
                "sequence": 1,
                "kind": "transition",
                "status": "received",
                "message": "Order received",
                "reason": None,
                "location": None,
                "source": None,
                "attempt": None,
                "corrects": None,
                "occurred_at": _MADE,
                "recorded_at": _MADE,
            }
        ],
    },
    "Timeline": {
        "order_id": ORDER_ID,
        "status": "received",
        "read_at": "2026-01-31T12:00:05.000Z",
        "left_out": 0,
        "entries": [
            {
                "happened_at": _MADE,
                "kind": "transition",
                "message": "Order received",
                "sequence": 1,
                "status": "received",
                "occurred_at": _MADE,
                "correlation_id": "checkout-7",
            },
            {
                "happened_at": _MADE,
                "kind": "promised",
                "message": "Stage processing is promised",
                "stage": "processing",
                "sequence": 1,
                "due_at": "2026-01-31T12:00:03.000Z",
                "correlation_id": "checkout-7",
            },
            {
                "happened_at": "2026-01-31T12:00:03.000Z",
                "kind": "due",
                "message": "Stage processing is due",
                "stage": "processing",
                "sequence": 1,
                "correlation_id": "checkout-7",
            },
            {
                "happened_at": "2026-01-31T12:00:03.006Z",
                "kind": "published",
                "message": "Stage processing is published",
                "stage": "processing",
                "sequence": 1,
                "correlation_id": "checkout-7",
            },
            {
                "happened_at": "2026-01-31T12:00:03.014Z",
                "kind": "failed",
                "message": "Stage processing: attempt 1 failed: it took too long",
                "stage": "processing",
                "sequence": 1,
                "attempt": 1,
                "due_at": "2026-01-31T12:00:07.500Z",
                "correlation_id": "checkout-7",
            },
            {
                "happened_at": "2026-01-31T12:00:05.000Z",
                "kind": "waiting",
                "message": "Waiting for stage processing",
                "stage": "processing",
                "sequence": 1,
                "attempt": 2,
                "due_at": "2026-01-31T12:00:07.500Z",
                "correlation_id": "checkout-7",
            },
        ],
    },
    "BulkResults": {
        "placed": 1,
        "refused": 0,
        "results": [{"status": 201, "id": ORDER_ID, "tracking_code": CODE}],
    },
    "Moves": {
        "initial": "received",
        "statuses": [
            {"status": status, "final": status in FINAL, "next": sorted(TRANSITIONS[status])}
            for status in Status
        ],
    },
    "Health": {"status": "live"},
    "Readiness": {
        "status": "ready",
        "dependencies": {"postgresql": "up", "rabbitmq": "up", "redis": "up"},
        "processes": {"publisher": "up", **dict.fromkeys(BY_QUEUE, "up")},
    },
    "PlaceOrder": {
        "description": "Espresso machine",
        "reference": "PO-1",
        "metadata": {"gift": "yes"},
    },
    "BulkOrder": {"description": "Two novels", "idempotency_key": "order-7"},
    "CancelOrder": {"reason": "Ordered twice"},
    "MakeReport": {
        "status": "in_transit",
        "location": "Kraków hub",
        "source": "scanner 12",
        "occurred_at": "2026-01-31T12:00:00Z",
    },
    "CorrectEvent": {"sequence": 1, "message": "It was another parcel.", "source": "desk 3"},
}
