"""The cookies that stand for an API key while somebody uses the dashboard."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import falcon
from itsdangerous import BadSignature, URLSafeTimedSerializer

COOKIE: Final = "slimtrack_session"
#: Seconds for which a session lasts.
LIFETIME: Final = 12 * 3600
#: Seconds by which the clock of the process that signed a cookie may be ahead of this one's.
_AHEAD: Final = 60
_PATH: Final = "/dashboard"


@dataclass(frozen=True, slots=True)
class Session:
    """Whose browser it is: that of a key's holder, or of somebody who has shown none.

    Attributes:
        key_id: the public part of the key; empty where none was shown.
        csrf_token: what a form has to carry that changes something.
    """

    key_id: str
    csrf_token: str

    def owns(self, csrf_token: str) -> bool:
        """Whether a form's token is that of this session."""
        return hmac.compare_digest(self.csrf_token.encode(), csrf_token.encode())


def new_session(key_id: str = "") -> Session:
    """Begin a session."""
    return Session(key_id, secrets.token_urlsafe(16))


class Sessions:
    """Writes and reads sessions.

    Args:
        get_secret: what they are signed with; asked once, when it is first needed.
    """

    def __init__(self, get_secret: Callable[[], bytes]) -> None:
        self._get_secret = get_secret
        self._lock = threading.Lock()
        self._serializer: URLSafeTimedSerializer | None = None

    def read(self, req: falcon.Request) -> Session | None:
        """Return the session of a request; None if it has none that is ours.

        One that is over, or that a clock says is yet to come, is nobody's. It keeps its token: the
        visitor can sign in, and no cookie is replaced that may be good for another process.
        """
        nobodys = None
        for cookie in req.get_cookie_values(COOKIE) or ():
            try:
                (key_id, token), signed_at = self._signer().loads(cookie, return_timestamp=True)
            except (BadSignature, ValueError, TypeError):
                continue
            if -_AHEAD <= time.time() - signed_at.timestamp() <= LIFETIME:
                return Session(key_id, token)
            nobodys = Session("", token)
        return nobodys

    def write(self, req: falcon.Request, resp: falcon.Response, session: Session) -> None:
        """Give a browser its session; scripts cannot read it, nor do other sites' forms send it."""
        resp.set_cookie(
            COOKIE,
            str(self._signer().dumps([session.key_id, session.csrf_token])),
            max_age=LIFETIME,
            path=_PATH,
            secure=req.forwarded_scheme == "https",
            http_only=True,
            same_site="Lax",
        )

    def _signer(self) -> URLSafeTimedSerializer:
        with self._lock:
            if self._serializer is None:
                self._serializer = URLSafeTimedSerializer(
                    self._get_secret(),
                    salt="slimtrack session",
                    signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
                )
            return self._serializer
