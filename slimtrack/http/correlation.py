"""The correlation id of a request: one id for all that follows from it."""

import re
import secrets
from typing import Final

import falcon

HEADER: Final = "X-Request-ID"
_VALID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def correlation_id_of(req: falcon.Request) -> str:
    """Return the caller's id if it is fit for a log and a header, else one that is made once."""
    if "correlation_id" not in req.context:
        given = req.get_header(HEADER)
        is_valid = given and _VALID.fullmatch(given)
        req.context.correlation_id = given if is_valid else secrets.token_hex(16)
    correlation_id: str = req.context.correlation_id
    return correlation_id
