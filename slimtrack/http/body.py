"""Reads the body of a request, without trusting anything that is said about it."""

from functools import lru_cache
from typing import Final

import falcon

from slimtrack.http import problems

#: Bytes of a body that are read before it is refused; an order needs a fraction of it.
MAX_BODY: Final = 64 * 1024

_JSON: Final = "application/json"


def read_json(req: falcon.Request) -> bytes:
    """Return the bytes of a body that is said to be JSON.

    Raises:
        Problem: it is said to be something else, is too large or did not arrive.
    """
    if not _is_json(req.content_type):
        raise problems.unsupported_body(f"Send {_JSON} in UTF-8, and say so in Content-Type.")
    if req.get_header("Content-Encoding", default="identity") != "identity":
        raise problems.unsupported_body("Send the body as it is, without Content-Encoding.")
    length = req.content_length
    if length is not None and length > MAX_BODY:
        raise problems.body_too_large(MAX_BODY)
    try:
        # Not the bounded stream: it takes a chunked body, which has no Content-Length, for empty.
        body = req.stream.read(MAX_BODY + 1)
    except Exception as error:  # bad chunks, a lost connection: each WSGI server has its own
        raise problems.malformed_body("The body did not arrive as a whole.") from error
    if len(body) > MAX_BODY:
        raise problems.body_too_large(MAX_BODY)
    if length is not None and len(body) != length:
        raise problems.malformed_body("The body is shorter than its Content-Length.")
    return body


@lru_cache(maxsize=64)
def _is_json(content_type: str | None) -> bool:
    media_type, parameters = falcon.parse_header(content_type or "")
    return media_type.lower() == _JSON and parameters.get("charset", "utf-8").lower() == "utf-8"
