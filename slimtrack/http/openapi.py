"""The OpenAPI 3.1 document, made of the same structs that requests and answers are made of."""

from collections.abc import Iterable
from functools import cache

import falcon
import msgspec

from slimtrack import __version__
from slimtrack.domain.order import Order
from slimtrack.http import schemas
from slimtrack.http.auth import PUBLIC
from slimtrack.http.body import JSON, NDJSON
from slimtrack.http.bulk import MAX_ORDERS
from slimtrack.http.flow import MERMAID, Moves
from slimtrack.http.health import Readiness
from slimtrack.http.operations import (
    EXAMPLE,
    HEADERS,
    METADATA,
    METADATA_VALUE,
    OPERATIONS,
    PARAMETERS,
    PROBLEM,
    PROBLEMS,
    SCHEMAS,
    Json,
    Operation,
)
from slimtrack.http.problems import MEDIA_TYPE


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
    _, components = msgspec.json.schema_components(
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
                **{name: _completed(name, schema) for name, schema in components.items()},
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
        "responses": _responses(operation),
        "security": [{"key": []}] if operation.scope else [],
    }
    if operation.body:
        described["requestBody"] = _request_body(operation)
    return described


def _request_body(operation: Operation) -> Json:
    assert operation.body  # noqa: S101 - the caller has looked
    schema: Json = {"$ref": f"{SCHEMAS}{operation.body.__name__}"}
    if operation.body is schemas.BulkOrder:
        many = {"type": "array", "items": schema, "minItems": 1, "maxItems": MAX_ORDERS}
        lines = {"type": "string", "description": "An order on each line."}
        return {"required": True, "content": {JSON: {"schema": many}, NDJSON: {"schema": lines}}}
    return {
        "required": operation.body is not schemas.CancelOrder,
        "content": {JSON: {"schema": schema}},
    }


def _responses(operation: Operation) -> Json:
    responses: Json = {
        str(operation.status): {
            "description": operation.summary + ".",
            "headers": _headers(operation.headers, limited=bool(operation.scope)),
            "content": _content(operation),
        }
    }
    if "If-None-Match" in operation.parameters:
        responses["304"] = {
            "description": "There is no newer version.",
            "headers": _headers(["ETag"], limited=True),
        }
    if operation.answer is Readiness:
        responses["503"] = {**responses["200"], "description": "The process cannot work."}
    for status in sorted(operation.problems):
        problem = PROBLEMS[status]
        needed = {401: ["WWW-Authenticate"], 403: ["WWW-Authenticate"]}.get(
            status, ["Retry-After"] if status in {429, 503} else []
        )
        responses[str(status)] = {
            "description": problem.when
            + f" Types: {', '.join(f'urn:slimtrack:problem:{kind}' for kind in problem.kinds)}.",
            "headers": _headers(needed, limited=False),
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
        }
    responses["405"] = {
        "description": "There is no such method here; Allow names those there are.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
    }
    return responses


def _content(operation: Operation) -> Json:
    assert operation.answer  # noqa: S101 - every operation has one
    content: Json = {JSON: {"schema": {"$ref": f"{SCHEMAS}{operation.answer.__name__}"}}}
    if operation.answer is Order:
        content[JSON]["example"] = EXAMPLE
    if operation.answer is Moves:
        content[MERMAID] = {"schema": {"type": "string"}}
    return content


def _headers(names: Iterable[str], *, limited: bool) -> Json:
    shown = ["X-Request-ID", *names, *(["RateLimit"] if limited else [])]
    return {name: HEADERS[name] for name in shown}


def _completed(name: str, schema: Json) -> Json:
    """Add what the types do not say: times, numbers that are never negative, free metadata."""
    properties: Json = {}
    for field, given in schema.get("properties", {}).items():
        described = dict(given)
        if field.endswith("_at"):
            described = _moment(described)
        if field == "metadata":
            described = _free_form(described)
        properties[field] = described
    completed = {**schema, **({"properties": properties} if properties else {})}
    if name == "Order":
        completed["examples"] = [EXAMPLE]
    return completed


def _moment(described: Json) -> Json:
    if "anyOf" not in described:
        return {**described, "format": "date-time"}
    return {**described, "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}


def _free_form(described: Json) -> Json:
    reference: Json = {"$ref": f"{SCHEMAS}Metadata"}
    if "anyOf" not in described:
        return reference
    return {**described, "anyOf": [reference, {"type": "null"}]}
