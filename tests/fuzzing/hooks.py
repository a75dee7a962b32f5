"""What the fuzzer has to be told about the API."""

import itertools
import json
from typing import Any

import schemathesis

_numbers = itertools.count(1)


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Send a text as it is, and anything else as one line of JSON."""
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def map_query(_context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Page by number or by cursor: that both are refused, a document cannot say."""
    if query and {"cursor", "limit"} & set(query):
        return {name: value for name, value in query.items() if not name.startswith("page")}
    return query


@schemathesis.hook
def map_headers(_context: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """One key names one command; the example of the document would name them all."""
    if headers and headers.get("Idempotency-Key") == "9f1b5c3e-checkout-7":
        return {**headers, "Idempotency-Key": f"fuzzer-{next(_numbers)}"}
    return headers
