"""Signing in with an API key, and out again."""

from collections.abc import Callable
from typing import ClassVar

import falcon

from slimtrack.domain.access import Principal
from slimtrack.http.auth import Scopes, refuse_excess
from slimtrack.http.dashboard.door import SIGN_IN, may_visit, safe_path
from slimtrack.http.dashboard.page import Page, form_of, render, say
from slimtrack.http.dashboard.sessions import Sessions, new_session
from slimtrack.redis.rate_limiter import Allowance


class SignIn(Page):
    """`/dashboard/sign-in`.

    Args:
        sessions: writes the session.
        authenticate: whose token it is; None if nobody's.
        take: counts an attempt of an address; None where it passes uncounted.
        asker_of: whose address a request is of.
    """

    needs: ClassVar[Scopes] = {"GET": None, "POST": None}

    def __init__(
        self,
        sessions: Sessions,
        *,
        authenticate: Callable[[str], Principal | None],
        take: Callable[[str], Allowance | None],
        asker_of: Callable[[falcon.Request], str],
    ) -> None:
        self._sessions = sessions
        self._authenticate = authenticate
        self._take = take
        self._asker_of = asker_of

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the form."""
        render(req, resp, "sign_in.html", next=req.get_param("next") or "", fault=None)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin a session, or say why not."""
        form = form_of(req)
        allowance = self._take(f"sign-in:{self._asker_of(req)}")
        if allowance:
            refuse_excess(allowance)
        principal = self._authenticate(form.get("key"))
        if principal is None or not may_visit(principal):
            resp.status = falcon.HTTP_FORBIDDEN
            fault = say(req, "sign_in.unknown" if principal is None else "sign_in.not_enough")
            render(req, resp, "sign_in.html", next=form.get("next"), fault=fault)
            return
        self._sessions.write(req, resp, new_session(principal.key_id))
        raise falcon.HTTPSeeOther(safe_path(form.get("next")))


class SignOut(Page):
    """`/dashboard/sign-out`."""

    scopes: ClassVar[Scopes] = {"POST": None}
    needs: ClassVar[Scopes] = {"POST": None}

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End the session of this browser; a revoked key ends all of its sessions."""
        self._sessions.write(req, resp, new_session())
        raise falcon.HTTPSeeOther(SIGN_IN)
