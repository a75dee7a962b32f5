"""The worker class of gunicorn: what it refuses itself is answered with problem documents too."""

import secrets
from http import HTTPStatus
from typing import Any, Final

import msgspec
from gunicorn.workers.gthread import ThreadWorker

from slimtrack.http.problems import MEDIA_TYPE

_DETAILS: Final = {
    HTTPStatus.BAD_REQUEST: "The request is not HTTP/1.1 as it should be, and was not read.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The first line of the request is too long.",
    HTTPStatus.EXPECTATION_FAILED: "Expect may only be 100-continue.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "A header is too long, or there are too many.",
    HTTPStatus.NOT_IMPLEMENTED: "The only Transfer-Encoding that is read here is chunked.",
}


class ProblemWorker(ThreadWorker):
    """Decides as gunicorn does what is wrong with a request, and says it in our words."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer a request that cannot be read."""
        super().handle_error(req, _Translated(client), addr, exc)


class _Translated:
    """A socket that makes a problem document of the page that gunicorn sends."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def sendall(self, page: bytes) -> None:
        self._client.sendall(_problem(HTTPStatus(int(page.split(b" ", 2)[1]))))


def _problem(status: HTTPStatus) -> bytes:
    body = msgspec.json.encode(
        {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": _DETAILS.get(status) or status.description or status.phrase,
        }
    )
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {secrets.token_hex(16)}\r\n"
        "\r\n"
    )
    return head.encode() + body
