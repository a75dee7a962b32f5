"""Reads the body of a request, without trusting anything that is said about it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import falcon

from slimtrack.http import problems

#: Bytes of a body that are read before it is refused; an order needs a fraction of it.
MAX_BODY: Final = 64 * 1024
#: The same where many orders come at once.
MAX_BULK_BODY: Final = 1024 * 1024

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


def read_body(
    req: falcon.Request, *, media_types: Sequence[str] = (JSON,), most: int = MAX_BODY
) -> bytes:
    """Return the bytes of a body that is said to be JSON.

    Raises:
        Problem: it is said to be something else, is too large or did not arrive.
    """
    if media_type_of(req.content_type) not in media_types:
        kinds = " or ".join(media_types)
        raise problems.unsupported_body(f"Send {kinds} in UTF-8, and say so in Content-Type.")
    if req.get_header("Content-Encoding", default="identity") != "identity":
        raise problems.unsupported_body("Send the body as it is, without Content-Encoding.")
    length = req.content_length
    if length is not None and length > most:
        raise problems.body_too_large(most)
    try:
        # Not the bounded stream: it takes a chunked body, which has no Content-Length, for empty.
        body = req.stream.read(most + 1)
    except Exception as error:  # bad chunks, a lost connection: each WSGI server has its own
        raise problems.malformed_body("The body did not arrive as a whole.") from error
    if len(body) > most:
        raise problems.body_too_large(most)
    if length is not None and len(body) != length:
        raise problems.malformed_body("The body is shorter than its Content-Length.")
    return body


@lru_cache(maxsize=64)
def media_type_of(content_type: str | None) -> str | None:
    """Return the media type that a header names, in lower case; None if it is not in UTF-8."""
    media_type, parameters = falcon.parse_header(content_type or "")
    in_utf8 = parameters.get("charset", "utf-8").lower() == "utf-8"
    return media_type.lower() if in_utf8 else None
