"""What the API offers, as its document says it: operations, parameters, headers, problems."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from slimtrack.domain.access import Scope
from slimtrack.domain.listing import OrderPage
from slimtrack.domain.order import MAX_REFERENCE, Order, Status
from slimtrack.http import queries, schemas
from slimtrack.http.bulk import BulkResults
from slimtrack.http.flow import Moves
from slimtrack.http.health import Health, Readiness

Json = dict[str, Any]

#: Where a schema of the document is found by its name.
SCHEMAS: Final = "#/components/schemas/"
_ORDER: Final = "/api/orders/{order}"
_CODE: Final = "SL-7K3F-9QXM-2VPD-A"
_ID: Final = "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"
#: What a pattern can say of a code; that its check character is right, it cannot.
_CODE_PATTERN: Final = "^([Ss][Ll]-?)?([0-9A-TV-Za-tv-z]{4}-?){3}[0-9A-TV-Za-tv-z]$"


class ProblemKinds(NamedTuple):
    """When a problem of a status occurs, and the last part of its types' names."""

    status: int
    when: str
    kinds: tuple[str, ...]


PROBLEMS: Final = {
    each.status: each
    for each in (
        ProblemKinds(
            400,
            "The body is not JSON, or a parameter or header is wrong.",
            ("malformed-body", "invalid-query", "invalid-header"),
        ),
        ProblemKinds(401, "There is no valid API key.", ("unauthenticated",)),
        ProblemKinds(403, "The API key lacks the scope.", ("forbidden",)),
        ProblemKinds(
            404, "There is no such order, or it is another tenant's.", ("order-not-found",)
        ),
        ProblemKinds(406, "The caller accepts no JSON.", ("not-acceptable",)),
        ProblemKinds(
            409,
            "The order, its reference or the idempotency key does not allow it now.",
            ("transition-not-allowed", "reference-taken", "idempotency-key-in-use"),
        ),
        ProblemKinds(
            412, "The order has changed; If-Match named an older version.", ("stale-version",)
        ),
        ProblemKinds(413, "The body is too large.", ("body-too-large",)),
        ProblemKinds(415, "The body is not of a type that is read here.", ("unsupported-body",)),
        ProblemKinds(
            422,
            "A field is wrong, or the idempotency key was used for something else.",
            (
                *("invalid-order", "invalid-bulk", "invalid-cancellation", "invalid-report"),
                *("invalid-correction", "idempotency-key-reused"),
            ),
        ),
        ProblemKinds(429, "The API key has used up its requests.", ("rate-limited",)),
        ProblemKinds(503, "The database does not answer.", ("unavailable",)),
    )
}


class Operation(NamedTuple):
    """One method of a path."""

    method: str
    path: str
    name: str
    summary: str
    description: str
    scope: Scope | None
    answer: type | None
    status: int = 200
    body: type | None = None
    parameters: Sequence[str] = ()
    problems: Sequence[int] = ()
    headers: Sequence[str] = ()


_READ: Final = (400, 401, 403, 406, 429, 503)
_WRITE: Final = (400, 401, 403, 406, 409, 413, 415, 422, 429, 503)
_CHANGE: Final = (*_WRITE, 404, 412)
_COMMAND: Final = ("order", "Idempotency-Key", "If-Match")

OPERATIONS: Final = (
    Operation(
        *("POST", "/api/orders", "place_order", "Place an order"),
        "One reference makes one order: a second one with it is refused with the id of the first.",
        Scope.ORDERS_WRITE,
        Order,
        status=201,
        body=schemas.PlaceOrder,
        parameters=("Idempotency-Key",),
        problems=_WRITE,
        headers=("Location", "ETag"),
    ),
    Operation(
        *("GET", "/api/orders", "list_orders", "List orders"),
        "Newest first. Page by number (page, page_size), or by cursor (limit, then the cursor of"
        " each answer), which orders that arrive meanwhile do not shift.",
        Scope.ORDERS_READ,
        OrderPage,
        parameters=queries.PARAMETERS,
        problems=_READ,
        headers=("Link",),
    ),
    Operation(
        *("POST", "/api/orders/bulk", "place_orders", "Place up to 1,000 orders"),
        "Each row has a result of its own, in the order given. A row may have an idempotency_key"
        " of its own beside the header for the whole request.",
        Scope.ORDERS_WRITE,
        BulkResults,
        body=schemas.BulkOrder,
        parameters=("Idempotency-Key",),
        problems=_WRITE,
    ),
    Operation(
        *("GET", _ORDER, "get_order", "Get an order"),
        "By its id or its tracking code.",
        Scope.ORDERS_READ,
        Order,
        parameters=("order", "If-None-Match"),
        problems=(*_READ, 404),
        headers=("ETag",),
    ),
    Operation(
        *("GET", f"{_ORDER}/events", "get_history", "Get an order's history"),
        "Every event of the order, oldest first.",
        Scope.ORDERS_READ,
        schemas.History,
        parameters=("order",),
        problems=(*_READ, 404),
    ),
    Operation(
        *("POST", f"{_ORDER}/cancel", "cancel_order", "Cancel an order"),
        "Possible until it is on its way. The body may be left out.",
        Scope.ORDERS_WRITE,
        Order,
        body=schemas.CancelOrder,
        parameters=_COMMAND,
        problems=_CHANGE,
        headers=("ETag",),
    ),
    Operation(
        *("POST", f"{_ORDER}/reports", "report", "Report what happened"),
        "What a scanner or a courier says. The order moves if it may; what it has passed already"
        " is kept in the history as late; what cannot be is refused with what can.",
        Scope.REPORTS_WRITE,
        Order,
        body=schemas.MakeReport,
        parameters=_COMMAND,
        problems=_CHANGE,
        headers=("ETag",),
    ),
    Operation(
        *("POST", f"{_ORDER}/corrections", "correct", "Correct the history"),
        "Says that an earlier event was wrong. The event itself stays as it is.",
        Scope.OPERATOR,
        Order,
        body=schemas.CorrectEvent,
        parameters=_COMMAND,
        problems=_CHANGE,
        headers=("ETag",),
    ),
    Operation(
        *("GET", "/api/flow", "get_flow", "Get the statuses and moves"),
        "Every status and every move between them; with format=mermaid as a diagram.",
        None,
        Moves,
        parameters=("format",),
        problems=(400, 406),
    ),
    Operation(
        *("GET", "/health/live", "get_liveness", "Ask whether the process answers"),
        "It does, if it does.",
        None,
        Health,
        problems=(406,),
    ),
    Operation(
        *("GET", "/health/ready", "get_readiness", "Ask whether the process can work"),
        "Ready, degraded (a server is away that can be done without) or, with a 503, unavailable.",
        None,
        Readiness,
        problems=(406,),
    ),
)

EXAMPLE: Final = {
    "id": _ID,
    "tracking_code": _CODE,
    "reference": "PO-1",
    "description": "Espresso machine",
    "metadata": {"gift": True},
    "flow": "simulated",
    "status": "received",
    "delivery_attempts": 0,
    "version": 1,
    "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:00.000Z",
}
#: What JSON can be in the metadata: PostgreSQL takes no NUL, and readers no larger numbers.
METADATA_VALUE: Final[Json] = {
    "title": "MetadataValue",
    "description": "Any JSON; numbers within 64 bits, no NUL character in texts.",
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "number", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "string", "pattern": r"^[^\x00]*$"},
        {"type": "array", "items": {"$ref": f"{SCHEMAS}MetadataValue"}},
        {"$ref": f"{SCHEMAS}Metadata"},
    ],
}
METADATA: Final[Json] = {
    "title": "Metadata",
    "description": "Up to 4,096 bytes of JSON, up to 32 levels deep.",
    "type": "object",
    "propertyNames": {"pattern": r"^[^\x00]*$"},
    "additionalProperties": {"$ref": f"{SCHEMAS}MetadataValue"},
}
PROBLEM: Final[Json] = {
    "title": "Problem",
    "description": "What is wrong, for programs and people (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "description": "Which problem it is; never changes.",
            "examples": ["urn:slimtrack:problem:order-not-found"],
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Each wrong field, parameter or header.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

_TIMES: Final = {
    "created_after": "Made at this time or later.",
    "created_before": "Made before this time.",
    "updated_after": "Changed at this time or later.",
    "updated_before": "Changed before this time.",
}
PARAMETERS: Final[Mapping[str, Json]] = {
    "order": {
        "in": "path",
        "required": True,
        "description": "The order's id, or its tracking code in any case, with or without dashes.",
        "schema": {
            "anyOf": [
                {"type": "string", "format": "uuid"},
                {"type": "string", "pattern": _CODE_PATTERN},
            ]
        },
        "example": _ID,
    },
    "Idempotency-Key": {
        "in": "header",
        "description": "Your name for this one command: repeated, it has no effect and the same"
        " answer. Remembered for a day.",
        "schema": {"type": "string", "pattern": f"^{schemas.KEY_PATTERN}$"},
        "example": "9f1b5c3e-checkout-7",
    },
    "If-Match": {
        "in": "header",
        "description": "The ETag of the version that you have seen; refused if it is older.",
        "schema": {"type": "string", "pattern": r'^("[1-9][0-9]{0,9}"|\*)$'},
        "example": '"1"',
    },
    "If-None-Match": {
        "in": "header",
        "description": "The ETag of the version that you have: 304 if there is no newer one.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
    "format": {"in": "query", "schema": {"enum": ["json", "mermaid"], "default": "json"}},
    "status": {
        "in": "query",
        "description": "In one of these statuses.",
        "schema": {"type": "array", "items": {"$ref": f"{SCHEMAS}Status"}, "minItems": 1},
        "example": [Status.RECEIVED],
    },
    "reference": {
        "in": "query",
        "description": "With this reference.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_REFERENCE,
            "pattern": r"^[^\x00]*$",
        },
    },
    "tracking_code": {
        "in": "query",
        "description": "With this tracking code.",
        "schema": {"type": "string", "pattern": _CODE_PATTERN},
        "example": _CODE,
    },
    "metadata": {
        "in": "query",
        "description": f"NAME=VALUE: with this text under this name in the metadata; up to"
        f" {queries.MOST_METADATA} times.",
        "schema": {
            "type": "array",
            "minItems": 1,
            "maxItems": queries.MOST_METADATA,
            "items": {
                "type": "string",
                "pattern": r"^[^=\x00]+=[^\x00]*$",
                "maxLength": queries.MAX_METADATA_PAIR,
            },
        },
        "example": ["city=Berlin"],
    },
    **{
        name: {
            "in": "query",
            "description": f"{when} A + in the zone is written %2B.",
            "schema": {"type": "string", "format": "date-time"},
            "example": "2026-01-31T12:00:00Z",
        }
        for name, when in _TIMES.items()
    },
    "sort": {
        "in": "query",
        "description": "created_at: oldest first; -created_at: newest first.",
        "schema": {"enum": ["-created_at", "created_at"], "default": "-created_at"},
    },
    "page": {
        "in": "query",
        "description": "Which page. Not together with cursor or limit.",
        "schema": {"type": "integer", "minimum": 1, "maximum": queries.MAX_PAGE, "default": 1},
    },
    "page_size": {
        "in": "query",
        "description": "Orders on a page. Not together with cursor or limit.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": queries.MAX_PAGE_SIZE,
            "default": queries.PAGE_SIZE,
        },
    },
    "limit": {
        "in": "query",
        "description": "Orders in an answer. Not together with page or page_size.",
        "schema": {"type": "integer", "minimum": 1, "maximum": queries.MAX_PAGE_SIZE},
    },
    "cursor": {
        "in": "query",
        "description": "The next_cursor of an earlier answer. Not together with page or page_size.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_-]{21}[AQgw]$"},
    },
}
HEADERS: Final[Mapping[str, Json]] = {
    "X-Request-ID": {
        "description": "The correlation id of the request: yours, or a new one.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the order is.", "schema": {"type": "string"}},
    "ETag": {"description": "The order's version.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page, as rel="next".', "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which it is worth trying again.",
        "schema": {"type": "integer"},
    },
    "WWW-Authenticate": {"description": "What is missing.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of the requests that the key may make (r), and for how many"
        " seconds (t).",
        "schema": {"type": "string"},
    },
}
