"""Who may do what over the API: `Authorization: Bearer stk_…`."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

import falcon

from slimtrack.domain.access import Principal, Scope
from slimtrack.http import problems
from slimtrack.http.addresses import is_this_machine, means_this_machine
from slimtrack.redis.rate_limiter import Allowance

#: Which scope each method of a resource needs; None for those that are open to anybody.
Scopes = Mapping[str, Scope | None]

#: What a resource declares that anybody may read.
PUBLIC: Final[Scopes] = {"GET": None}

_SCHEME: Final = "bearer"
#: What proxies add to the requests that they pass on.
_PASSED_ON: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Authentication:
    """Finds out who asks, and whether they may.

    Each resource says in ``scopes`` which scope each of its methods needs; what is not said is open
    to nobody.

    Args:
        authenticate: whose token it is; None if nobody's.
    """

    def __init__(self, authenticate: Callable[[str], Principal | None]) -> None:
        self._authenticate = authenticate

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,  # noqa: ARG002 - Falcon's signature
        resource: object,
        params: dict[str, object],  # noqa: ARG002 - as above
    ) -> None:
        """Let the request pass, or answer 401 or 403."""
        scope = _scope_for(req, resource)
        if scope is None:
            return
        principal = self._authenticate(_token_of(req))
        if principal is None:
            raise problems.unauthenticated("The API key is not valid, or no longer.")
        if scope not in principal.scopes:
            raise problems.forbidden(scope)
        req.context.principal = principal


class Open:
    """Lets everybody on this machine in, as the holder of a key.

    Args:
        find: who everybody is.
    """

    def __init__(self, find: Callable[[], Principal]) -> None:
        self._find = find

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,  # noqa: ARG002 - Falcon's signature
        resource: object,
        params: dict[str, object],  # noqa: ARG002 - as above
    ) -> None:
        """Let the request pass, or answer 403.

        Whatever address the server listens on, and whoever started it: nobody else is let in, nor
        whoever asks through a proxy on this machine.
        """
        if not is_this_machine(req.remote_addr) or any(map(req.get_header, _PASSED_ON)):
            raise problems.closed("Without API keys only this machine may ask (SLIMTRACK_AUTH).")
        # Any website may have its own name lead its visitors' browsers here.
        host = req.get_header("Host")
        if host is not None and not means_this_machine(host):
            raise problems.closed(
                "Without API keys (SLIMTRACK_AUTH) ask for localhost or 127.0.0.1, no other name."
            )
        if _scope_for(req, resource):
            req.context.principal = self._find()


def _scope_for(req: falcon.Request, resource: object) -> Scope | None:
    """Return the scope that a request needs; None for what is open to anybody.

    Raises:
        Problem: the resource does not say.
    """
    if not hasattr(resource, f"on_{req.method.lower()}"):
        return None  # Falcon says which methods there are
    scopes: Scopes = getattr(resource, "scopes", {})
    if req.method not in scopes:
        raise problems.closed("No API key allows this.")
    return scopes[req.method]


class RateLimiting:
    """Refuses callers who ask too often.

    Args:
        take: counts a request of a key; None where it passes uncounted.
    """

    def __init__(self, take: Callable[[str], Allowance | None]) -> None:
        self._take = take

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,  # noqa: ARG002 - Falcon's signature
        params: dict[str, object],  # noqa: ARG002 - as above
    ) -> None:
        """Count the request of a key; answer 429 when it has used up what it may."""
        principal: Principal | None = req.context.get("principal")
        allowance = self._take(principal.key_id) if principal else None
        if allowance is None:
            return
        # draft-ietf-httpapi-ratelimit-headers-10: one policy, of all that a key may do.
        left = f'"key";r={allowance.remaining};t={ceil(allowance.reset)}'
        resp.set_header("RateLimit-Policy", f'"key";q={allowance.limit};w=60')
        resp.set_header("RateLimit", left)
        refuse_excess(allowance)


def refuse_excess(allowance: Allowance) -> None:
    """Answer 429 where more is asked than may be."""
    if not allowance.allowed:
        raise problems.rate_limited(allowance.limit, wait=max(1, ceil(allowance.reset)))


def _token_of(req: falcon.Request) -> str:
    header = req.get_header("Authorization")
    if not header:
        raise problems.unauthenticated(
            "Send an API key: Authorization: Bearer stk_…. `slimtrack keys create` makes one."
        )
    scheme, _, token = header.partition(" ")
    if scheme.lower() != _SCHEME:
        raise problems.unauthenticated("Authorization has to be: Bearer stk_….")
    return token.strip()
