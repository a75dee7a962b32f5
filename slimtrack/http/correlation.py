"""The correlation id of a request: one id for all that follows from it."""

import re
import secrets
from typing import Final

import falcon

from slimtrack.domain import traceparent

HEADER: Final = "X-Request-ID"
_VALID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def correlation_id_of(req: falcon.Request) -> str:
    """Return the caller's id if it is fit for a log and a header, else that of the caller's trace.

    Where there is neither, one is made, once.
    """
    if "correlation_id" not in req.context:
        given = req.get_header(HEADER)
        if not (given and _VALID.fullmatch(given)):
            parent = traceparent.read(req.get_header("traceparent"))
            given = parent.trace_id if parent else secrets.token_hex(16)
        req.context.correlation_id = given
    correlation_id: str = req.context.correlation_id
    return correlation_id
