"""Problem documents (RFC 9457): how the API says what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import falcon
import structlog

from slimtrack.domain.errors import (
    OrderNotFoundError,
    ReferenceTakenError,
    SlimTrackError,
    UnavailableError,
)

MEDIA_TYPE: Final = "application/problem+json"

_log: Final = structlog.get_logger()


class Fault(NamedTuple):
    """One wrong field, parameter or other part of a request."""

    field: str
    message: str


class Problem(falcon.HTTPError):
    """An answer that says what is wrong; ``members`` are those beyond RFC 9457's own."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, title=title, description=detail, headers=dict(headers or {}))
        self.kind = kind
        self.members = members


def malformed_body(detail: str) -> Problem:
    """Say that the body is not what its Content-Type says, or did not arrive."""
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-body", "Malformed body", detail)


def body_too_large(most: int) -> Problem:
    """Say how large a body may be."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        "Body too large",
        f"The body is larger than {most} bytes.",
    )


def unsupported_body(detail: str) -> Problem:
    """Say what a body may be."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-body", "Unsupported body", detail
    )


def not_acceptable() -> Problem:
    """Say what an answer can be."""
    return Problem(
        HTTPStatus.NOT_ACCEPTABLE,
        "not-acceptable",
        "Not acceptable",
        "Every answer is application/json or application/problem+json; Accept allows neither.",
    )


def invalid_order(faults: Sequence[Fault]) -> Problem:
    """Say which fields of a new order are wrong."""
    return _invalid(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-order", "Invalid order", faults)


def invalid_query(faults: Sequence[Fault]) -> Problem:
    """Say which query parameters are wrong."""
    return _invalid(HTTPStatus.BAD_REQUEST, "invalid-query", "Invalid query", faults)


def order_not_found(detail: str) -> Problem:
    """Say that there is no such order."""
    return Problem(HTTPStatus.NOT_FOUND, "order-not-found", "Order not found", detail)


def install(app: falcon.App[Any, Any]) -> None:
    """Have every error that leaves a resource answered with a problem document."""
    app.set_error_serializer(_serialize)
    for kind, answer in _ANSWERS.items():
        app.add_error_handler(kind, _raise_problem(answer))
    app.add_error_handler(Exception, _answer_unexpected)


def _invalid(status: HTTPStatus, kind: str, title: str, faults: Sequence[Fault]) -> Problem:
    return Problem(
        status,
        kind,
        title,
        "; ".join(f"{fault.field} {fault.message}".strip() for fault in faults) + ".",
        errors=[fault._asdict() for fault in faults],
    )


def _reference_taken(error: ReferenceTakenError) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "reference-taken",
        "Reference taken",
        f"{error} Nothing was placed.",
        order_id=str(error.order_id),
        order_url=f"/api/orders/{error.order_id}",
    )


def _unavailable(error: UnavailableError) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "Temporarily unavailable",
        f"{error} Try again in a moment.",
        headers={"Retry-After": "1"},
    )


#: How an error of the domain is answered.
_ANSWERS: Final[Mapping[type[SlimTrackError], Callable[[Any], Problem]]] = {
    OrderNotFoundError: lambda error: order_not_found(str(error)),
    ReferenceTakenError: _reference_taken,
    UnavailableError: _unavailable,
}

_Handler = Callable[[falcon.Request, falcon.Response, Any, dict[str, Any]], None]


def _raise_problem(answer: Callable[[Any], Problem]) -> _Handler:
    def handle(
        _req: falcon.Request, _resp: falcon.Response, error: Any, _params: dict[str, Any]
    ) -> None:
        raise answer(error) from error

    return handle


def _answer_unexpected(
    req: falcon.Request, _resp: falcon.Response, error: Exception, _params: dict[str, Any]
) -> None:
    _log.error("request.failed", method=req.method, route=req.uri_template, exc_info=error)
    raise Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Internal error",
        "Something went wrong on our side; the X-Request-ID of this answer leads to the cause.",
    ) from error


def _serialize(_req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    status = HTTPStatus(error.status_code)
    resp.content_type = MEDIA_TYPE
    if isinstance(error, Problem):
        named = {"type": f"urn:slimtrack:problem:{error.kind}", "title": error.title}
        members = error.members
    else:  # Falcon's own: unknown paths and methods
        named = {"type": "about:blank", "title": status.phrase}
        members = {}
    detail = error.description or status.description
    resp.media = {**named, "status": status.value, "detail": detail, **members}
