"""The parameters and headers of the API."""

from collections.abc import Mapping
from typing import Final

from slimtrack.domain.order import MAX_REFERENCE, Status
from slimtrack.http import queries, schemas
from slimtrack.http.openapi.examples import CODE, ORDER_ID
from slimtrack.http.openapi.shapes import Json, reference_to

#: What a pattern can say of a code; that its check character is right, it cannot.
_CODE_PATTERN: Final = "^([Ss][Ll]-?)?([0-9A-TV-Za-tv-z]{4}-?){3}[0-9A-TV-Za-tv-z]$"

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
        "example": ORDER_ID,
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
        "schema": {
            "anyOf": [
                {"type": "string", "pattern": '^"[1-9][0-9]{0,9}"$'},
                {"const": "*"},
            ]
        },
        "example": '"1"',
    },
    "If-None-Match": {
        "in": "header",
        "description": "The ETag of the version that you have: 304 if there is no newer one.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
    "format": {
        "in": "query",
        "description": "As data or as a diagram.",
        "schema": {"enum": ["json", "mermaid"], "default": "json"},
    },
    "status": {
        "in": "query",
        "description": "In one of these statuses.",
        "schema": {"type": "array", "items": reference_to("Status"), "minItems": 1},
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
        "example": CODE,
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
        "description": f"Which page; page times page_size is at most {queries.MAX_DEPTH:,}. Not"
        " together with cursor or limit.",
        "schema": {"type": "integer", "minimum": 1, "maximum": queries.MAX_DEPTH, "default": 1},
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
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Location": {"description": "Where the order is.", "schema": {"type": "string"}},
    "ETag": {"description": "The order's version.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page, as rel="next".', "schema": {"type": "string"}},
    "Allow": {"description": "The methods that there are.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which it is worth trying again.",
        "schema": {"type": "integer"},
    },
    "WWW-Authenticate": {"description": "What is missing.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "There if this is the answer that the first request with the key had.",
        "schema": {"const": "true"},
    },
    "RateLimit": {
        "description": "What is left of the requests that the key may make (r), and for how many"
        " seconds (t).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "How many requests the key may make (q) in how many seconds (w).",
        "schema": {"type": "string"},
    },
}
