"""What happens around every request."""

import logging
import time
from typing import Any, Final

import falcon
import structlog
from prometheus_client import Histogram

from slimtrack.http import problems
from slimtrack.http.auth import Authentication, Open, RateLimiting
from slimtrack.http.correlation import HEADER, correlation_id_of
from slimtrack.http.tracing import Tracing
from slimtrack.telemetry import metrics, tracing

_log: Final = structlog.get_logger()
_level: Final = logging.getLogger(__name__)


class RequestScope:
    """Gives each request its correlation id, and a line in the log."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin."""
        correlation_id = correlation_id_of(req)
        req.context.started = time.perf_counter()
        resp.set_header(HEADER, correlation_id)
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,  # noqa: ARG002 - Falcon's signature
        req_succeeded: bool,  # noqa: ARG002, FBT001 - Falcon's signature
    ) -> None:
        """Write the line: errors of ours always, all else only if somebody wants to know.

        A server that is away is an error as well, but none that this line can tell more of; an
        error that nobody expected has a line of its own already.
        """
        if "started" not in req.context:  # refused by Falcon before any middleware
            self.process_request(req, resp)
        failed = resp.status_code >= 500 and "failed" not in req.context
        # Asked first, as structlog needs longer to find out that nobody wants to know.
        if failed or _level.isEnabledFor(logging.DEBUG):
            _log.log(
                logging.WARNING if failed else logging.DEBUG,
                "request.served",
                method=req.method,
                route=req.uri_template,
                status=resp.status_code,
                duration=round(time.perf_counter() - req.context.started, 6),
            )
        # The thread serves others, and logs between requests.
        structlog.contextvars.unbind_contextvars("correlation_id")


class Measuring:
    """Takes the time of each request, by its route, its method and the class of its status.

    Has to stand before ``RequestScope``, which knows when each began: answers pass in reverse.
    """

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, int], Histogram] = {}

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,  # noqa: ARG002 - Falcon's signature
        req_succeeded: bool,  # noqa: ARG002, FBT001 - as above
    ) -> None:
        """Observe it."""
        method = req.method if req.method in falcon.HTTP_METHODS else "other"
        key = req.uri_template or "none", method, resp.status_code // 100
        series = self._series.get(key)
        if series is None:
            route, method, status = key
            series = metrics.HTTP_DURATION.labels(route, method, f"{status}xx")
            self._series[key] = series
        series.observe(time.perf_counter() - req.context.started)


class Acceptance:
    """Refuses callers who could not read the answer; a resource may say what else it answers."""

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,  # noqa: ARG002 - Falcon's signature
        resource: object,
        params: dict[str, object],  # noqa: ARG002 - as above
    ) -> None:
        """Look at Accept; without one, anything goes."""
        media_types = getattr(resource, "media_types", (falcon.MEDIA_JSON,))
        if not req.client_prefers([*media_types, problems.MEDIA_TYPE]):
            raise problems.not_acceptable(media_types)


class SecurityHeaders:
    """Tells browsers to trust nothing, and caches to keep nothing, of what an API answers."""

    def process_response(
        self,
        req: falcon.Request,  # noqa: ARG002 - Falcon's signature
        resp: falcon.Response,
        resource: object,  # noqa: ARG002 - as above
        req_succeeded: bool,  # noqa: ARG002, FBT001 - as above
    ) -> None:
        """Set the headers, unless the resource has set its own."""
        for name, value in SECURITY_HEADERS.items():
            if resp.get_header(name) is None:
                resp.set_header(name, value)


#: On every answer.
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def install(
    app: falcon.App[Any, Any],
    *,
    authentication: Authentication | Open,
    rate_limiting: RateLimiting | None,
    measured: bool,
) -> None:
    """Add all of them, in the order in which requests pass them."""
    if tracer := tracing.active():
        app.add_middleware(Tracing(tracer))
    if measured:
        app.add_middleware(Measuring())
    app.add_middleware([RequestScope(), SecurityHeaders(), Acceptance(), authentication])
    if rate_limiting:
        app.add_middleware(rate_limiting)
