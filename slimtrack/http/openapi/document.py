"""The OpenAPI 3.1 document, made of the same structs that requests and answers are made of."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Final

import falcon
import msgspec

from slimtrack import __version__
from slimtrack.http.auth import PUBLIC
from slimtrack.http.body import JSON, NDJSON
from slimtrack.http.bulk import MAX_ORDERS
from slimtrack.http.flow import MERMAID, Moves
from slimtrack.http.health import Readiness
from slimtrack.http.openapi.examples import EXAMPLES
from slimtrack.http.openapi.operations import OPERATIONS, WHEN, Operation
from slimtrack.http.openapi.parameters import HEADERS, PARAMETERS
from slimtrack.http.openapi.shapes import (
    METADATA,
    METADATA_VALUE,
    PROBLEM,
    SCHEMAS,
    Json,
    complete,
    reference_to,
)
from slimtrack.http.problems import KINDS, MEDIA_TYPE, make_document, type_of
from slimtrack.http.schemas import BulkOrder, CancelOrder

#: What answers of a status have beside the headers of all.
_HEADERS_OF: Final = {
    HTTPStatus.UNAUTHORIZED: ["WWW-Authenticate"],
    HTTPStatus.FORBIDDEN: ["WWW-Authenticate"],
    HTTPStatus.METHOD_NOT_ALLOWED: ["Allow"],
    HTTPStatus.CONFLICT: ["Retry-After"],
    HTTPStatus.TOO_MANY_REQUESTS: ["Retry-After"],
    HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After"],
}
#: Statuses of answers that are given before it is known how many requests the key has left.
_UNCOUNTED: Final = {
    KINDS[kind]
    for kind in (
        *("malformed-request", "unauthenticated", "forbidden", "method-not-allowed"),
        *("not-acceptable", "path-too-long", "headers-too-large"),
    )
} - {HTTPStatus.BAD_REQUEST}


class OpenApiDocument:
    """`/openapi.json`."""

    scopes = PUBLIC

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Return the document."""
        resp.media = document()


@cache
def document() -> Json:
    """Return the OpenAPI document."""
    types = {each for op in OPERATIONS for each in (op.answer, op.body) if each}
    _, shapes = msgspec.json.schema_components(
        sorted(types, key=lambda each: each.__name__), ref_template=f"{SCHEMAS}{{name}}"
    )
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SlimTrack",
            "version": __version__,
            "description": "Tracks deliveries: orders in, every change of status an event.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": "Orders"}, {"name": "About the service"}],
        "paths": paths,
        "components": {
            "schemas": {
                **{name: complete(name, shape) for name, shape in shapes.items()},
                "Metadata": METADATA,
                "MetadataValue": METADATA_VALUE,
                "Problem": PROBLEM,
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, as `slimtrack keys create` makes it.",
                }
            },
        },
    }


def _describe(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.name,
        "tags": ["Orders" if operation.scope else "About the service"],
        "summary": operation.summary,
        "description": operation.description
        + (f" Needs the scope {operation.scope}." if operation.scope else ""),
        "parameters": [{"name": name, **PARAMETERS[name]} for name in operation.parameters],
        "responses": {**_answers(operation), **_problems(operation)},
        "security": [{"key": [operation.scope]}] if operation.scope else [],
    }
    if operation.body:
        described["requestBody"] = _request_body(operation.body)
    return described


def _request_body(body: type) -> Json:
    shape, example = reference_to(body.__name__), EXAMPLES[body.__name__]
    if body is BulkOrder:
        many = {"type": "array", "items": shape, "minItems": 1, "maxItems": MAX_ORDERS}
        lines = {"type": "string", "description": "An order on each line."}
        others = {"description": "Winter coat", "idempotency_key": "order-8"}
        text = "\n".join(msgspec.json.encode(each).decode() for each in (example, others))
        content = {
            JSON: {"schema": many, "example": [example]},
            NDJSON: {"schema": lines, "example": f"{text}\n"},
        }
    else:
        content = {JSON: {"schema": shape, "example": example}}
    return {"required": body is not CancelOrder, "content": content}


def _answers(operation: Operation) -> Json:
    name = operation.answer.__name__
    content: Json = {JSON: {"schema": reference_to(name), "example": EXAMPLES[name]}}
    if operation.answer is Moves:
        diagram = "stateDiagram-v2\n    [*] --> received\n"
        content[MERMAID] = {"schema": {"type": "string"}, "example": diagram}
    headers = [*operation.headers, *(["Idempotent-Replayed"] if operation.body else [])]
    answer: Json = {
        "description": f"{operation.summary}.",
        "headers": _headers(headers, counted=bool(operation.scope)),
        "content": content,
    }
    answers = {str(operation.status): answer}
    if "If-None-Match" in operation.parameters:
        answers["304"] = {
            "description": "There is no newer version.",
            "headers": _headers(["ETag"], counted=True),
        }
    if operation.answer is Readiness:
        answers["503"] = {**answer, "description": "The process cannot work."}
    return answers


def _problems(operation: Operation) -> Json:
    kinds: defaultdict[HTTPStatus, list[str]] = defaultdict(list)
    for kind in operation.problems:
        kinds[KINDS[kind]].append(kind)
    return {
        str(status.value): {
            "description": " ".join(WHEN[kind] for kind in kinds[status]),
            "headers": _headers(
                [
                    *_HEADERS_OF.get(status, ()),
                    *(["Idempotent-Replayed"] if operation.body else ()),
                ],
                counted=bool(operation.scope) and status not in _UNCOUNTED,
            ),
            "content": {
                MEDIA_TYPE: {
                    "schema": reference_to("Problem"),
                    "examples": {
                        kind: {
                            "summary": type_of(kind),
                            "value": make_document(kind, WHEN[kind], request_id="req-4f2a"),
                        }
                        for kind in kinds[status]
                    },
                }
            },
        }
        for status in sorted(kinds)
    }


def _headers(names: Iterable[str], *, counted: bool) -> Json:
    shown = ["X-Request-ID", *names, *(["RateLimit", "RateLimit-Policy"] if counted else [])]
    return {name: HEADERS[name] for name in shown}
