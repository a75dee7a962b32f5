"""Problem documents (RFC 9457): how the API says what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import falcon
import structlog

from slimtrack.domain.errors import (
    EventNotFoundError,
    OrderNotFoundError,
    ReferenceTakenError,
    SlimTrackError,
    StaleVersionError,
    TransitionNotAllowedError,
    UnavailableError,
)
from slimtrack.domain.idempotency import KeyInUseError, KeyReusedError

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


def invalid_body(kind: str, title: str, faults: Sequence[Fault]) -> Problem:
    """Say which fields of a body are wrong."""
    return _invalid(HTTPStatus.UNPROCESSABLE_ENTITY, kind, title, faults)


def repeated_key(index: int) -> Problem:
    """Say that another row of the same request has this row's key."""
    faults = [Fault("idempotency_key", f"must come once, and row {index + 1} has it too")]
    return invalid_body("invalid-order", "Invalid order", faults)


def invalid_query(faults: Sequence[Fault]) -> Problem:
    """Say which query parameters are wrong."""
    return _invalid(HTTPStatus.BAD_REQUEST, "invalid-query", "Invalid query", faults)


def invalid_header(name: str, message: str) -> Problem:
    """Say what is wrong with a header."""
    faults = [Fault(name, message)]
    return _invalid(HTTPStatus.BAD_REQUEST, "invalid-header", "Invalid header", faults)


def unauthenticated(detail: str) -> Problem:
    """Say that a valid key is needed."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "Unauthenticated",
        detail,
        headers={"WWW-Authenticate": 'Bearer realm="SlimTrack"'},
    )


def forbidden(scope: str) -> Problem:
    """Say which scope the key lacks."""
    return Problem(
        HTTPStatus.FORBIDDEN,
        "forbidden",
        "Forbidden",
        f"The API key lacks the scope {scope}.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )


def rate_limited(most: int, *, wait: int) -> Problem:
    """Say how many requests a key may make, and when there is room again."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate-limited",
        "Rate limited",
        f"The API key may make {most} requests a minute. Try again in {wait} s.",
        headers={"Retry-After": str(wait)},
    )


def order_not_found(detail: str) -> Problem:
    """Say that there is no such order."""
    return Problem(HTTPStatus.NOT_FOUND, "order-not-found", "Order not found", detail)


def problem_of(error: SlimTrackError) -> Problem | None:
    """Return how an error of the domain is answered; None if it is not the caller's to know."""
    answer = _ANSWERS.get(type(error))
    return answer(error) if answer else None


def document_of(error: falcon.HTTPError) -> dict[str, Any]:
    """Return the problem document of an error."""
    status = HTTPStatus(error.status_code)
    if isinstance(error, Problem):
        named = {"type": f"urn:slimtrack:problem:{error.kind}", "title": error.title}
        members = error.members
    else:  # Falcon's own: unknown paths and methods
        named = {"type": "about:blank", "title": status.phrase}
        members = {}
    detail = error.description or status.description
    return {**named, "status": status.value, "detail": detail, **members}


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


def _transition_not_allowed(error: TransitionNotAllowedError) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "transition-not-allowed",
        "Transition not allowed",
        str(error),
        current=error.status,
        allowed=error.allowed,
    )


def _stale_version(error: StaleVersionError) -> Problem:
    return Problem(
        HTTPStatus.PRECONDITION_FAILED,
        "stale-version",
        "Stale version",
        f"{error} Nothing was changed.",
        version=error.version,
    )


def _event_not_found(error: EventNotFoundError) -> Problem:
    faults = [Fault("sequence", "is not that of an event of this order")]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-correction",
        "Invalid correction",
        str(error),
        errors=[fault._asdict() for fault in faults],
    )


def _key_reused(error: KeyReusedError) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "Idempotency key reused",
        str(error),
    )


def _key_in_use(error: KeyInUseError) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "idempotency-key-in-use",
        "Idempotency key in use",
        f"{error} Try again in a moment.",
        headers={"Retry-After": "1"},
    )


def _unavailable(_error: UnavailableError) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "Temporarily unavailable",
        "What this needs does not answer now. Try again in a moment.",
        headers={"Retry-After": "1"},
    )


#: How an error of the domain is answered.
_ANSWERS: Final[Mapping[type[SlimTrackError], Callable[[Any], Problem]]] = {
    EventNotFoundError: _event_not_found,
    KeyInUseError: _key_in_use,
    KeyReusedError: _key_reused,
    OrderNotFoundError: lambda error: order_not_found(str(error)),
    ReferenceTakenError: _reference_taken,
    StaleVersionError: _stale_version,
    TransitionNotAllowedError: _transition_not_allowed,
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
    resp.content_type = MEDIA_TYPE
    resp.media = document_of(error)
