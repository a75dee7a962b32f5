"""Who may do what over the API: `Authorization: Bearer stk_…`."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

import falcon

from slimtrack.domain.access import Principal, Scope
from slimtrack.http import problems
from slimtrack.redis.rate_limiter import Allowance

#: Which scope each method of a resource needs.
Scopes = Mapping[str, Scope]

#: What a resource without keys declares: anybody may use it.
PUBLIC: Final[Scopes] = {}

_SCHEME: Final = "bearer"


class Authentication:
    """Finds out who asks, and whether they may.

    Each resource says in ``scopes`` which scope each of its methods needs. A resource that says
    nothing is open to nobody.

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
        scopes: Scopes | None = getattr(resource, "scopes", None)
        if scopes is PUBLIC:
            return
        principal = self._authenticate(_token_of(req))
        if principal is None:
            raise problems.unauthenticated("The API key is not valid, or no longer.")
        scope = scopes.get(req.method) if scopes else None
        # A method that the resource lacks is answered by Falcon.
        if scope and scope not in principal.scopes:
            raise problems.forbidden(scope)
        req.context.principal = principal


class Open:
    """Lets everybody in as the default tenant's key holder."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,  # noqa: ARG002 - Falcon's signature
        resource: object,  # noqa: ARG002 - as above
        params: dict[str, object],  # noqa: ARG002 - as above
    ) -> None:
        """Let the request pass."""
        req.context.principal = self._principal


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
