"""Records requests."""

from typing import Final

import falcon

from slimtrack.http.correlation import correlation_id_of
from slimtrack.telemetry.tracing import Tracer

#: Nobody looks at those: they come every few seconds.
_PROBES: Final = "/health/"


class Tracing:
    """Records each request.

    Has to stand before ``RequestScope``, whose line is part of it: answers pass in reverse.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin."""
        del resp
        if req.path.startswith(_PROBES):
            return
        req.context.traced = self._tracer.begin_request(
            method=_method_of(req),
            traceparent=req.get_header("traceparent"),
            correlation_id=correlation_id_of(req),
        )

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,  # noqa: ARG002 - Falcon's signature
        req_succeeded: bool,  # noqa: ARG002, FBT001 - as above
    ) -> None:
        """End."""
        if begun := req.context.get("traced"):
            self._tracer.end_request(
                begun, method=_method_of(req), route=req.uri_template, status=resp.status_code
            )


def _method_of(req: falcon.Request) -> str:
    return req.method if req.method in falcon.HTTP_METHODS else "_OTHER"
