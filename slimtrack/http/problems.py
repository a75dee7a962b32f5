"""Problem documents (RFC 9457): how the API says what is wrong."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import falcon
import structlog

from slimtrack.domain.errors import (
    EventNotFoundError,
    HistoryFullError,
    OrderNotFoundError,
    ReferenceTakenError,
    SlimTrackError,
    StaleVersionError,
    TransitionNotAllowedError,
    UnavailableError,
)
from slimtrack.domain.idempotency import KeyInUseError, KeyReusedError
from slimtrack.http.correlation import correlation_id_of
from slimtrack.telemetry import errors, tracing

MEDIA_TYPE: Final = "application/problem+json"

#: Every kind of problem, and its status. The kind ends the problem's type, which never changes.
KINDS: Final[Mapping[str, HTTPStatus]] = {
    "malformed-request": HTTPStatus.BAD_REQUEST,
    "malformed-body": HTTPStatus.BAD_REQUEST,
    "invalid-query": HTTPStatus.BAD_REQUEST,
    "invalid-header": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "order-not-found": HTTPStatus.NOT_FOUND,
    "path-not-found": HTTPStatus.NOT_FOUND,
    "method-not-allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "not-acceptable": HTTPStatus.NOT_ACCEPTABLE,
    "transition-not-allowed": HTTPStatus.CONFLICT,
    "history-full": HTTPStatus.CONFLICT,
    "reference-taken": HTTPStatus.CONFLICT,
    "idempotency-key-in-use": HTTPStatus.CONFLICT,
    "stale-version": HTTPStatus.PRECONDITION_FAILED,
    "body-too-large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "path-too-long": HTTPStatus.REQUEST_URI_TOO_LONG,
    "unsupported-body": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unmet-expectation": HTTPStatus.EXPECTATION_FAILED,
    "invalid-order": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid-bulk": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid-cancellation": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid-report": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid-correction": HTTPStatus.UNPROCESSABLE_ENTITY,
    "idempotency-key-reused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "rate-limited": HTTPStatus.TOO_MANY_REQUESTS,
    "headers-too-large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "internal-error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "unsupported-transfer-encoding": HTTPStatus.NOT_IMPLEMENTED,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}
#: What Falcon raises by itself.
_FALCONS_OWN: Final = {
    HTTPStatus.BAD_REQUEST: "malformed-request",
    HTTPStatus.NOT_FOUND: "path-not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
}

#: What a resource for people has in its request's context as ``show_problem``: answers with a page.
ShowProblem = Callable[[falcon.Request, falcon.Response, Mapping[str, Any]], None]

_log: Final = structlog.get_logger()


class Fault(NamedTuple):
    """One wrong field, parameter or other part of a request."""

    field: str
    message: str


class Problem(falcon.HTTPError):
    """An answer that says what is wrong.

    Args:
        kind: one of ``KINDS``.
        detail: for people: what is wrong, and what can be done.
        headers: what the answer has beside its usual headers.
        members: what the document has beyond RFC 9457's own members.
    """

    def __init__(
        self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(KINDS[kind], description=detail, headers=dict(headers or {}))
        self.kind = kind
        self.members = members


def type_of(kind: str) -> str:
    """Return the URI that programs know a kind of problem by."""
    return f"urn:slimtrack:problem:{kind}"


def document_of(error: falcon.HTTPError, *, request_id: str | None = None) -> dict[str, Any]:
    """Return the problem document of an error."""
    status = HTTPStatus(error.status_code)
    kind = (
        error.kind if isinstance(error, Problem) else _FALCONS_OWN.get(status, "malformed-request")
    )
    detail = error.description or f"{status.description}."
    members = error.members if isinstance(error, Problem) else {}
    return make_document(kind, detail, request_id=request_id, **members)


def make_document(
    kind: str, detail: str, *, request_id: str | None = None, **members: Any
) -> dict[str, Any]:
    """Return a problem document.

    ``request_id`` is left out where the document is a part of an answer that has its own.
    """
    document = {
        "type": type_of(kind),
        "title": kind.replace("-", " ").capitalize(),
        "status": KINDS[kind].value,
        "detail": detail,
        **members,
    }
    return document | ({"request_id": request_id} if request_id else {})


def problem_of(error: SlimTrackError) -> Problem | None:
    """Return how an error of the domain is answered; None if it is not the caller's to know."""
    answer = _ANSWERS.get(type(error))
    return answer(error) if answer else None


def path_not_found() -> Problem:
    """Say that there is nothing here."""
    return Problem("path-not-found", "There is nothing at this address.")


def malformed_body(detail: str) -> Problem:
    """Say that the body is not what its Content-Type says, or did not arrive."""
    return Problem("malformed-body", detail)


def body_too_large(most: int) -> Problem:
    """Say how large a body may be."""
    return Problem("body-too-large", f"The body is larger than {most} bytes.")


def unsupported_body(detail: str) -> Problem:
    """Say what a body may be."""
    return Problem("unsupported-body", detail)


def not_acceptable(media_types: Sequence[str]) -> Problem:
    """Say what an answer can be."""
    return Problem(
        "not-acceptable",
        f"Accept allows none of what is answered here: {', '.join([*media_types, MEDIA_TYPE])}.",
    )


def invalid(kind: str, faults: Sequence[Fault]) -> Problem:
    """Say which fields, parameters or headers are wrong."""
    detail = "; ".join(f"{fault.field} {fault.message}".strip() for fault in faults)
    return Problem(kind, f"{detail}.", errors=[fault._asdict() for fault in faults])


def invalid_header(name: str, message: str) -> Problem:
    """Say what is wrong with a header."""
    return invalid("invalid-header", [Fault(name, message)])


def unauthenticated(detail: str) -> Problem:
    """Say that a valid key is needed."""
    return Problem(
        "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="SlimTrack"'}
    )


def forbidden(scope: str) -> Problem:
    """Say which scope the key lacks."""
    return Problem(
        "forbidden",
        f"The API key lacks the scope {scope}.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )


def closed(detail: str) -> Problem:
    """Say that no key would help."""
    return Problem("forbidden", detail)


def rate_limited(most: int, *, wait: int) -> Problem:
    """Say how many requests a key may make, and when there is room again."""
    return Problem(
        "rate-limited",
        f"The API key may make {most} requests a minute. Try again in {wait} s.",
        headers={"Retry-After": str(wait)},
    )


def too_many_streams() -> Problem:
    """Say that this process serves no more streams."""
    return Problem(
        "unavailable",
        "Too many pages are open. Close one, or try again in a moment.",
        headers={"Retry-After": "5"},
    )


def too_many_streams_of_one(most: int) -> Problem:
    """Say how many streams one owner may have."""
    return Problem(
        "rate-limited",
        f"As many pages follow what happens as one visitor or key may have open: {most}."
        " Close one, and try again.",
        headers={"Retry-After": "5"},
    )


def order_not_found(detail: str) -> Problem:
    """Say that there is no such order."""
    return Problem("order-not-found", detail)


def install(app: falcon.App[Any, Any]) -> None:
    """Have every error that leaves a resource answered with a problem document."""
    app.set_error_serializer(_serialize)
    for kind, answer in _ANSWERS.items():
        app.add_error_handler(kind, _raise_problem(answer))
    app.add_error_handler(Exception, _answer_unexpected)


def _reference_taken(error: ReferenceTakenError) -> Problem:
    return Problem(
        "reference-taken",
        f"{error} Nothing was placed.",
        order_id=str(error.order_id),
        order_url=f"/api/orders/{error.order_id}",
    )


def _transition_not_allowed(error: TransitionNotAllowedError) -> Problem:
    return Problem(
        "transition-not-allowed", str(error), current=error.status, allowed=error.allowed
    )


def _stale_version(error: StaleVersionError) -> Problem:
    return Problem("stale-version", f"{error} Nothing was changed.", version=error.version)


def _event_not_found(error: EventNotFoundError) -> Problem:
    return invalid("invalid-correction", [Fault("sequence", f"is wrong: {error}".rstrip("."))])


#: How an error of the domain is answered.
_ANSWERS: Final[Mapping[type[SlimTrackError], Callable[[Any], Problem]]] = {
    EventNotFoundError: _event_not_found,
    HistoryFullError: lambda error: Problem("history-full", str(error)),
    KeyInUseError: lambda error: Problem(
        "idempotency-key-in-use",
        f"{error} Try again in a moment.",
        headers={"Retry-After": "1"},
    ),
    KeyReusedError: lambda error: Problem("idempotency-key-reused", str(error)),
    OrderNotFoundError: lambda error: order_not_found(str(error)),
    ReferenceTakenError: _reference_taken,
    StaleVersionError: _stale_version,
    TransitionNotAllowedError: _transition_not_allowed,
    UnavailableError: lambda _error: Problem(
        "unavailable",
        "What this needs does not answer now. Try again in a moment.",
        headers={"Retry-After": "1"},
    ),
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
    req.context.failed = True
    _log.error("request.failed", method=req.method, route=req.uri_template, exc_info=error)
    tracer = tracing.active()
    if tracer:
        tracer.record(error)
    errors.report(
        error,
        method=req.method,
        route=req.uri_template,
        correlation_id=correlation_id_of(req),
        trace_id=structlog.contextvars.get_contextvars().get("trace_id"),
    )
    raise Problem(
        "internal-error",
        "Something went wrong on our side; the request_id of this answer leads to the cause.",
    ) from error


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    document = document_of(error, request_id=correlation_id_of(req))
    show: ShowProblem | None = req.context.get("show_problem")
    if show:
        show(req, resp, document)
        return
    resp.content_type = MEDIA_TYPE
    resp.media = document
