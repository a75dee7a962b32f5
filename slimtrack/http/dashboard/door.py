"""Who may visit the dashboard: a session stands for a key, a token in each form for a session."""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

import falcon

from slimtrack.domain.access import Principal, Scope
from slimtrack.domain.order import DEFAULT_TENANT
from slimtrack.http import problems
from slimtrack.http.auth import refuse_excess
from slimtrack.http.dashboard.forms import read_form
from slimtrack.http.dashboard.page import Page, Visit, show_problem
from slimtrack.http.dashboard.sessions import Session, Sessions, new_session
from slimtrack.redis.rate_limiter import Allowance

SIGN_IN: Final = "/dashboard/sign-in"
#: Where holders of other tenants' keys begin.
ORDERS: Final = "/dashboard/orders"
#: What stands for itself in an address, beside letters and digits (RFC 3986, section 2.2).
_ADDRESS: Final = "%:/?#[]@!$&'()*+,;="
_TOKEN: Final = "X-CSRF-Token"  # noqa: S105 - the name of a header


class Door:
    """Lets visitors in, as the middleware of all pages.

    Args:
        sessions: reads and writes sessions.
        find: whose key an id is; None if it must not be used any more.
        anybody: who everybody is, where no keys are asked for.
        take: counts a request of a key, or lets it pass uncounted; None where nobody counts.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        find: Callable[[str], Principal | None],
        anybody: Callable[[], Principal] | None = None,
        take: Callable[[str], Allowance | None] | None = None,
    ) -> None:
        self._sessions = sessions
        self._find = find
        self._anybody = anybody
        self._take = take
        self._navigation: list[tuple[str, str, type[Page]]] = []

    def list_page(self, name: str, path: str, page: Page) -> None:
        """Have a page in the navigation of those who may see it."""
        self._navigation.append((name, path, type(page)))

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,
        params: dict[str, object],  # noqa: ARG002 - Falcon's signature
    ) -> None:
        """Let the visitor pass, or lead them to where they can show a key."""
        if isinstance(resource, Page):
            self.admit(req, resp, resource)

    def admit(self, req: falcon.Request, resp: falcon.Response, page: Page) -> None:
        """Find out who visits a page, and whether they may.

        Raises:
            HTTPSeeOther: they have to sign in first.
            Problem: they may not, or not that often.
        """
        req.context.show_problem = show_problem
        session = self._sessions.read(req)
        if session is None:
            session = new_session()
            self._sessions.write(req, resp, session)
        principal = self.principal_of(session)
        req.context.visit = Visit(session, principal, self._navigation_of(principal))
        if req.method == "POST":
            self._refuse_foreign(req, session)
        need = page.needs.get(req.method)
        if need is None:
            return
        if principal is None:
            raise _sign_in_first(req)
        if page.system and principal.tenant_id != DEFAULT_TENANT:
            raise _not_for_tenants(req)
        if not allows(principal, need):
            raise problems.forbidden(need)
        allowance = self._take(principal.key_id) if self._take else None
        if allowance:
            refuse_excess(allowance)

    def still_admits(self, session: Session, page: Page) -> bool:
        """Whether a session that was admitted to a page would be so again.

        Raises:
            UnavailableError: that cannot be known now.
        """
        principal = self.principal_of(session)
        return principal is not None and (not page.system or principal.tenant_id == DEFAULT_TENANT)

    def principal_of(self, session: Session) -> Principal | None:
        """Return who a session belongs to; None if they have to sign in (again)."""
        if self._anybody:
            return self._anybody()
        principal = self._find(session.key_id) if session.key_id else None
        return principal if principal and may_visit(principal) else None

    def _navigation_of(self, principal: Principal | None) -> Sequence[tuple[str, str]]:
        return [
            (name, path)
            for name, path, page in self._navigation
            if principal
            and (principal.tenant_id == DEFAULT_TENANT or not page.system)
            and allows(principal, page.needs["GET"])
        ]

    def _refuse_foreign(self, req: falcon.Request, session: Session) -> None:
        """Refuse what another site's page has a browser send."""
        req.context.form = form = read_form(req)
        if not session.owns(req.get_header(_TOKEN) or form.get("csrf")):
            raise problems.closed(
                "This form is of another session. Load the page again, and repeat what you did."
            )


def may_visit(principal: Principal) -> bool:
    """Whether a key opens the dashboard at all."""
    return bool(principal.scopes & {Scope.ORDERS_READ, Scope.OPERATOR})


def allows(principal: Principal, need: Scope | None) -> bool:
    """Whether a key has a scope, or one that includes it here."""
    return need is None or bool(
        principal.scopes & ({need, Scope.OPERATOR} if need == Scope.ORDERS_READ else {need})
    )


def safe_path(wanted: str) -> str:
    """Return where to go after the sign-in: a page of the dashboard, whatever was asked."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/dashboard"
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith("/dashboard")
    if not (is_ours and wanted.isprintable() and "\\" not in wanted):
        return "/dashboard"
    return quote(wanted, safe=_ADDRESS)


def _sign_in_first(req: falcon.Request) -> Exception:
    place = f"{SIGN_IN}?next={quote(req.relative_uri, safe='')}"
    if req.method == "GET" and not req.get_header("HX-Request"):
        if req.client_accepts("text/html"):
            return falcon.HTTPSeeOther(place)
        return problems.unauthenticated("Sign in again.")
    problem = problems.unauthenticated("Sign in again.")
    problem.headers = {"HX-Redirect": SIGN_IN}
    return problem


def _not_for_tenants(req: falcon.Request) -> Exception:
    if req.path == "/dashboard":
        return falcon.HTTPSeeOther(ORDERS)
    return problems.closed("This page is for those who run the service.")
