"""What every page of the dashboard has in common."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import falcon

from slimtrack.domain.access import Principal, Scope
from slimtrack.domain.operator_action import MAX_REASON
from slimtrack.domain.order import DEFAULT_TENANT
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.forms import Form
from slimtrack.http.dashboard.sessions import Session
from slimtrack.http.pages import rendering

PACKAGE: Final = "slimtrack.http.dashboard"

#: What a page needs that shows something, and lets an operator change it.
FOR_OPERATORS: Final[Scopes] = {"GET": Scope.ORDERS_READ, "POST": Scope.OPERATOR}


class Visit(NamedTuple):
    """Who visits a page; ``navigation`` has the name and the address of each page for them."""

    session: Session
    principal: Principal | None
    navigation: Sequence[tuple[str, str]]


class Page:
    """A page, or a part of one.

    Attributes:
        needs: the scope that each method needs; None for those open to anybody. Who may operate may
            also read.
        system: whether it is only for those who run the system: holders of the default tenant's
            keys. Other tenants see their own orders.
    """

    #: The API's own door lets everybody pass: the dashboard has one of its own.
    scopes: ClassVar[Scopes] = {"GET": None, "POST": None}
    media_types: Sequence[str] = (falcon.MEDIA_HTML,)
    needs: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ}
    system: ClassVar[bool] = True


def visit_of(req: falcon.Request) -> Visit:
    """Return who visits a page."""
    visit: Visit = req.context.visit
    return visit


def principal_of(req: falcon.Request) -> Principal:
    """Return who has signed in; the page has to need a scope."""
    principal = visit_of(req).principal
    assert principal  # noqa: S101 - the door has seen to it
    return principal


def tenant_of(req: falcon.Request) -> int | None:
    """Return whose orders somebody sees; None for anybody's, as those do who run the system."""
    tenant_id = principal_of(req).tenant_id
    return None if tenant_id == DEFAULT_TENANT else tenant_id


def form_of(req: falcon.Request) -> Form:
    """Return what was sent, the door having looked at its token."""
    form: Form = req.context.form
    return form


def operator_of(req: falcon.Request) -> str:
    """Return how the log of actions names who has signed in."""
    return f"key {principal_of(req).key_id or 'none'}"


def render(req: falcon.Request, resp: falcon.Response, template: str, **values: Any) -> None:
    """Answer with a page; templates know who visits it as well."""
    rendering.render(req, resp, PACKAGE, template, **_about(req), **values)


def say(req: falcon.Request, key: str, **values: object) -> str:
    """Return a text in the visitor's language."""
    return rendering.say(req, PACKAGE, key, **values)


def show_problem(req: falcon.Request, resp: falcon.Response, document: Mapping[str, Any]) -> None:
    """Answer with a page that says what is wrong; a script is told in JSON, for people as well."""
    if "visit" not in req.context or req.get_header("HX-Request"):
        resp.content_type = falcon.MEDIA_JSON
        resp.media = document
        return
    render(req, resp, "problem.html", problem=document)


def _about(req: falcon.Request) -> dict[str, Any]:
    visit = visit_of(req)
    return {
        "principal": visit.principal,
        "may_operate": visit.principal is not None and Scope.OPERATOR in visit.principal.scopes,
        "csrf_token": visit.session.csrf_token,
        "navigation": visit.navigation,
        "path": req.path,
        "max_reason": MAX_REASON,
    }
